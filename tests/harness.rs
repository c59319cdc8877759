//! The harness itself: its helpers drive Chromium as the tests of the page rely on, and the
//! server's headers do in a browser what they promise.
#![cfg(feature = "serve")]

mod common;

use common::browser::{Browser, DroppedFile, Gpu, LogLine, key};
use serde_json::{Value, json};

const PAGE: &str = r#"<!doctype html>
<html><head><meta charset="utf-8"><title>Harness</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="page.css"></head>
<body>
<button id="button">Press</button> <output id="out"></output>
<input id="file" type="file" multiple hidden>
<input id="slider" type="range" min="0" max="10" value="0">
<input id="name">
<div id="drop">Drop here</div>
<script>document.title = "an inline script ran";</script>
<script src="page.js"></script>
</body></html>"#;

const STYLE: &str = "body { background: rgb(255, 255, 255); min-height: 2000px; margin: 0 }
@media (prefers-color-scheme: dark) { body { background: rgb(1, 2, 3) } }";

const SCRIPT: &str = r#"
const out = document.getElementById("out");
const list = async (files) => {
    const sum = async (file) => new Uint8Array(await file.arrayBuffer()).reduce((a, b) => a + b, 0);
    const told = await Promise.all([...files].map(async (f) => `${f.name} ${f.type} ${await sum(f)}`));
    out.textContent = told.join("; ");
};
document.getElementById("button").onclick = () => { out.textContent = "pressed"; };
document.getElementById("file").onchange = (event) => list(event.target.files);
document.getElementById("slider").oninput = (event) => { out.textContent = `at ${event.target.value}`; };
const drop = document.getElementById("drop");
drop.ondragover = (event) => event.preventDefault();
drop.ondrop = (event) => { event.preventDefault(); list(event.dataTransfer.files); };
try {
    document.body.dataset.eval = (0, eval)("'ran'");
} catch (error) {
    document.body.dataset.eval = error.name;
}
document.onpaste = (event) => list(event.clipboardData.files);
"#;

const WORKER: &str = r#"
onmessage = async ({ data }) => {
    const { instance } = await WebAssembly.instantiateStreaming(fetch("add.wasm"));
    postMessage(instance.exports.add(...data));
};"#;

/// `(module (func (export "add") (param i32 i32) (result i32) local.get 0 local.get 1 i32.add))`
const ADD: &[u8] = &[
    0, 97, 115, 109, 1, 0, 0, 0, 1, 7, 1, 96, 2, 127, 127, 1, 127, 3, 2, 1, 0, 7, 7, 1, 3, 97, 100,
    100, 0, 0, 10, 9, 1, 7, 0, 32, 0, 32, 1, 106, 11,
];

fn site() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let files: &[(&str, &[u8])] = &[
        ("index.html", PAGE.as_bytes()),
        ("page.css", STYLE.as_bytes()),
        ("page.js", SCRIPT.as_bytes()),
        ("worker.js", WORKER.as_bytes()),
        ("add.wasm", ADD),
    ];
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

/// Width and height from a PNG's header.
fn png_size(file: &std::path::Path) -> (u32, u32) {
    let bytes = std::fs::read(file).unwrap();
    assert_eq!(&bytes[1..4], b"PNG");
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}

#[test]
fn hands_and_eyes_work() {
    let site = site();
    let Some(mut page) = Browser::on(site.path(), Gpu::Absent) else {
        return;
    };
    page.goto("");
    page.wait_for_element("#button", 10);
    page.click("#button");
    assert_eq!(page.text("#out"), "pressed");

    let file = site.path().join("three.bin");
    std::fs::write(&file, [1, 2, 3]).unwrap();
    page.upload("#file", &[&file]);
    let told = "return document.getElementById('out').textContent.includes('three.bin') && out.textContent";
    assert_eq!(
        page.wait_for("the upload", told, 10),
        json!("three.bin application/octet-stream 6")
    );

    let photo = DroppedFile {
        name: "photo.jpg",
        kind: "image/jpeg",
        bytes: &[255, 216],
    };
    page.drop_files("#drop", &[photo]);
    let told = "return out.textContent.includes('photo') && out.textContent";
    assert_eq!(
        page.wait_for("the drop", told, 10),
        json!("photo.jpg image/jpeg 471")
    );
    let pasted = DroppedFile {
        name: "pasted.png",
        kind: "image/png",
        bytes: &[7],
    };
    page.paste_files("body", &[pasted]);
    let told = "return out.textContent.includes('pasted') && out.textContent";
    assert_eq!(
        page.wait_for("the paste", told, 10),
        json!("pasted.png image/png 7")
    );

    page.set_value("#slider", "4");
    assert_eq!(page.text("#out"), "at 4");
    page.run("document.getElementById('slider').focus()", &[]);
    page.keys(key::RIGHT);
    assert_eq!(page.text("#out"), "at 5");
    page.type_into("#name", "V4.t2");
    assert_eq!(
        page.run("return document.getElementById('name').value", &[]),
        json!("V4.t2")
    );

    let sum = "const [a, b] = arguments; return await Promise.resolve(a + b)";
    assert_eq!(page.run(sum, &[json!(2), json!(3)]), json!(5));
    let save = "
        const link = document.createElement('a');
        link.href = URL.createObjectURL(new Blob(['a,b\\n1,2\\n']));
        link.download = 'table.csv';
        link.click();";
    page.run(save, &[]);
    let saved = page.download("table.csv", 20);
    assert_eq!(std::fs::read_to_string(saved).unwrap(), "a,b\n1,2\n");
}

#[test]
fn sizes_and_schemes_are_emulated() {
    let site = site();
    let Some(mut page) = Browser::on(site.path(), Gpu::Absent) else {
        return;
    };
    page.goto("");
    let shots = tempfile::tempdir().unwrap();
    let background = "return getComputedStyle(document.body).backgroundColor";
    let table = [
        ("light", 1280, false, "rgb(255, 255, 255)"),
        ("dark", 390, true, "rgb(1, 2, 3)"),
    ];
    for (scheme, width, mobile, colour) in table {
        page.colour_scheme(scheme);
        page.viewport(width, 800, mobile);
        assert_eq!(page.run(background, &[]), json!(colour));
        assert_eq!(page.run("return innerWidth", &[]), json!(width));
        let scale = if mobile { 2 } else { 1 };
        let file = shots.path().join(format!("{scheme}.png"));
        page.screenshot(&file);
        assert_eq!(png_size(&file), (width * scale, 800 * scale));
        page.screenshot_of_all(&file);
        let (_, height) = png_size(&file);
        assert!(height >= 2000 * scale, "{height}");
    }
    page.offline(true);
    let reached = "return await fetch('add.wasm').then(() => true, () => false)";
    assert_eq!(page.run(reached, &[]), json!(false));
    page.offline(false);
    assert_eq!(page.run(reached, &[]), json!(true));
}

#[test]
fn the_servers_policy_holds_in_a_browser() {
    let site = site();
    let Some(mut page) = Browser::on(site.path(), Gpu::Absent) else {
        return;
    };
    page.goto("");
    assert_eq!(page.run("return document.title", &[]), json!("Harness"));
    assert_eq!(page.run("return crossOriginIsolated", &[]), json!(true));
    // Asked of the page's own script: what a driver runs is exempt from the policy.
    let evaluated = page.run("return document.body.dataset.eval", &[]);
    assert_eq!(evaluated, json!("EvalError"));
    let work = "
        const worker = new Worker('worker.js');
        const answer = new Promise((done, failed) => {
            worker.onmessage = (event) => done(event.data);
            worker.onerror = (event) => failed(new Error(event.message));
        });
        worker.postMessage([20, 22]);
        return await answer;";
    assert_eq!(page.run(work, &[]), json!(42));
    let lines = page.log();
    let inline =
        |line: &LogLine| line.level == "SEVERE" && line.message.contains("Content Security Policy");
    assert!(lines.iter().any(inline), "{lines:?}");
    page.expect_no_errors(&[]);
}

/// What the page sees of WebGPU: nothing, or the adapter's architecture and one sum computed on it.
const ADAPTER: &str = "
    const adapter = navigator.gpu ? await navigator.gpu.requestAdapter() : null;
    if (!adapter) return null;
    const device = await adapter.requestDevice();
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC;
    const buffer = device.createBuffer({ size: 4, usage });
    const code = '@group(0) @binding(0) var<storage, read_write> sum: array<u32>;' +
        '@compute @workgroup_size(1) fn main() { sum[0] = 40u + 2u; }';
    const module = device.createShaderModule({ code });
    const pipeline = device.createComputePipeline({ layout: 'auto', compute: { module } });
    const entries = [{ binding: 0, resource: { buffer } }];
    const group = device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries });
    const read = device.createBuffer({ size: 4, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(1);
    pass.end();
    encoder.copyBufferToBuffer(buffer, 0, read, 0, 4);
    device.queue.submit([encoder.finish()]);
    await read.mapAsync(GPUMapMode.READ);
    return [adapter.info.architecture, new Uint32Array(read.getMappedRange())[0]];";

#[test]
fn webgpu_is_there_when_asked_for_and_only_then() {
    let site = site();
    let table = [
        (Gpu::Absent, Value::Null),
        (Gpu::Software, json!(["swiftshader", 42])),
    ];
    for (gpu, expected) in table {
        let Some(mut page) = Browser::on(site.path(), gpu) else {
            return;
        };
        page.goto("");
        assert_eq!(page.run_within(ADAPTER, &[], 120), expected, "{gpu:?}");
    }
}

#[test]
fn waits_are_bounded_and_failures_say_what_was_wrong() {
    let site = site();
    let Some(mut page) = Browser::on(site.path(), Gpu::Absent) else {
        return;
    };
    page.goto("");
    let begun = std::time::Instant::now();
    let mut fails = |act: &dyn Fn(&mut Browser)| -> String {
        let act = std::panic::AssertUnwindSafe(|| act(&mut page));
        let panic = std::panic::catch_unwind(act).expect_err("it should have failed");
        panic.downcast_ref::<String>().cloned().unwrap_or_default()
    };
    let text = fails(&|page| drop(page.wait_for("the moon", "return 0", 1)));
    assert!(text.contains("the moon: still 0"), "{text}");
    let text = fails(&|page| drop(page.run("throw new Error('too dark')", &[])));
    assert!(text.contains("too dark"), "{text}");
    let text = fails(&|page| drop(page.run_within("await new Promise(() => {})", &[], 1)));
    assert!(text.contains("timeout"), "{text}");
    let text = fails(&|page| page.click("#missing"));
    assert!(text.contains("#missing"), "{text}");
    let text = fails(&|page| {
        page.run("console.error('a fault')", &[]);
        page.expect_no_errors(&["another"]);
    });
    assert!(text.contains("a fault"), "{text}");
    assert!(begun.elapsed().as_secs() < 60);
}
