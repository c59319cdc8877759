//! The device, threads and hosts.

use std::path::{Path, PathBuf};

use crate::common::browser::{Browser, Gpu};
use crate::common::skip;
use crate::page::{open, testid, top, wait_for_text};

#[test]
fn the_backend_can_be_chosen_and_software_is_not_the_default() {
    let Some(mut browser) = open(Gpu::Software) else {
        return;
    };
    let in_use = browser.text(&testid("backend-in-use"));
    assert!(
        in_use.contains("CPU"),
        "a software adapter must not be the default: {in_use}"
    );
    let adapter = browser.text(&testid("adapter")).to_lowercase();
    assert!(adapter.contains("swiftshader"), "{adapter}");
    browser.click(&testid("backend-webgpu"));
    wait_for_text(&mut browser, "backend-in-use", "WebGPU", 120);
    let check = browser.text(&testid("self-check"));
    println!("WebGPU on SwiftShader: {check}");
    browser.wait_for_element(&format!("{} li", testid("top5")), 180);
    // This adapter reads no numbers of 16 bits, and the page says so.
    browser.click(&testid("backend-webgpu-f16"));
    wait_for_text(&mut browser, "backend-note", "shader-f16", 120);
    let in_use = browser.text(&testid("backend-in-use"));
    assert!(in_use.contains("WebGPU"), "{in_use}");
    assert!(!in_use.contains("f16"), "{in_use}");
    browser.wait_for_element(&format!("{} li", testid("top5")), 180);
    browser.expect_no_errors(&[]);
}

/// The cores the page may use, and whether it may share memory between them.
fn cores(browser: &mut Browser) -> (u64, bool) {
    let found = browser.run(
        "return [navigator.hardwareConcurrency, crossOriginIsolated]",
        &[],
    );
    (
        found[0].as_u64().expect("a number of cores"),
        found[1] == true,
    )
}

#[test]
fn all_cores_compute() {
    let Some(mut browser) = open(Gpu::Absent) else {
        return;
    };
    let (cores, is_isolated) = cores(&mut browser);
    assert!(is_isolated, "the server isolates the page");
    let in_use = browser.text(&testid("backend-in-use"));
    println!("{in_use} on {cores} cores");
    let wanted = format!("{} thread", cores.min(16));
    assert!(in_use.contains(&wanted), "{in_use} on {cores} cores");
    // Another device is another worker, which is given the picture and the model again.
    let before = top(&mut browser);
    browser.click(&testid("backend-cpu"));
    browser.wait_for_element(&format!("{} li", testid("top5")), 120);
    wait_for_text(&mut browser, "backend-in-use", &wanted, 60);
    assert_eq!(top(&mut browser), before);
    browser.expect_no_errors(&[]);
}

/// A host of static files that sends no headers of its own; its address.
fn bare_host(folder: PathBuf) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound port has an address");
    listener.set_nonblocking(true).expect("a socket's option");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            let files = tower_http::services::ServeDir::new(folder);
            axum::serve(listener, axum::Router::new().fallback_service(files)).await
        })
    });
    format!("http://{address}/")
}

#[test]
fn a_host_without_headers_has_threads_too() {
    let Some(mut browser) = Browser::on_built_page(Gpu::Absent) else {
        return;
    };
    let dist = std::env::var_os("VENTRAL_DIST").expect("it was there");
    let host = bare_host(dist.into());
    browser.goto_elsewhere(&format!("{host}#see?model=cornet-s-cifar10"));
    browser.wait_for(
        "the service worker",
        "return !!navigator.serviceWorker.controller && crossOriginIsolated",
        30,
    );
    browser.wait_for_element(&format!("{} li", testid("top5")), 120);
    let (cores, _) = cores(&mut browser);
    let in_use = browser.text(&testid("backend-in-use"));
    let wanted = format!("{} thread", cores.min(16));
    assert!(in_use.contains(&wanted), "{in_use} on {cores} cores");
    // The second visit begins with it.
    browser.goto_elsewhere("about:blank");
    browser.goto_elsewhere(&host);
    browser.wait_for_element(&format!("{} li", testid("top5")), 120);
    browser.expect_no_errors(&[]);
}

/// As `cargo xtask serve` shows it: the program for the GPU comes while the page is in use.
#[test]
fn the_cpu_computes_until_the_program_for_the_gpu_is_compiled() {
    let Some(dist) = std::env::var_os("VENTRAL_DIST").map(PathBuf::from) else {
        skip("VENTRAL_DIST is not set (`cargo xtask test` sets it)");
        return;
    };
    let site = tempfile::tempdir().expect("a temporary folder");
    copy(&dist, site.path());
    for name in ["worker.js", "worker.js.br", "worker.js.gz"] {
        // Small scripts are not compressed beforehand.
        let _ = std::fs::remove_file(site.path().join(name));
    }
    let script = site.path().join("worker.js");
    std::fs::write(&script, "self.notCompiledYet = true;\n").expect("it can be written");
    let Some(mut browser) = Browser::on(site.path(), Gpu::Absent) else {
        return;
    };
    browser.goto("#see?model=cornet-s-cifar10&backend=webgpu");
    browser.wait_for_element(&format!("{} li", testid("top5")), 120);
    let found = top(&mut browser);
    let (cores, _) = cores(&mut browser);
    wait_for_text(&mut browser, "compiling", "still being compiled", 20);
    wait_for_text(
        &mut browser,
        "backend-in-use",
        &format!("{} thread", cores.min(16)),
        20,
    );
    std::fs::copy(dist.join("worker.js"), &script).expect("it can be copied");
    let gone = format!(
        "return !document.querySelector({})",
        serde_json::json!(testid("compiling"))
    );
    browser.wait_for("the note to go", &gone, 60);
    // There is no GPU here: the program that owns it computes on one thread.
    wait_for_text(&mut browser, "backend-note", "GPU", 60);
    browser.wait_for_element(&format!("{} li", testid("top5")), 120);
    assert_eq!(top(&mut browser), found);
    browser.expect_no_errors(&[]);
}

/// Copies all that is in a folder.
fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => {
                std::fs::create_dir_all(&to).expect("a folder can be made");
                copy(&entry.path(), &to);
            }
            false => {
                std::fs::copy(entry.path(), to).expect("a file can be copied");
            }
        }
    }
}
