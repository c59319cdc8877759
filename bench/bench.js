// Ventral, ONNX Runtime Web and TensorFlow.js on the same weights, in turns. Each engine is
// `{ load(model), infer(pixels, batch), gradient?(pixels, batch), end() }`; the driver asks for one
// model at a time through `window.bench(job)`.

const PEERS = "./peers";

/// A request to Ventral's worker at a time.
class Client {
  constructor(query) {
    this.last = 0;
    this.worker = new Worker(`./worker_boot.js${query}`);
    this.hello = new Promise((resolve, reject) => {
      this.fail = reject;
      this.worker.onerror = (e) => reject(new Error(e.message));
      this.worker.onmessage = ({ data }) => this.take(data, resolve);
    });
  }

  take(data, hello) {
    if (data.hello) hello();
    if (data.crashed) (this.reject ?? this.fail)(new Error(data.crashed));
    if (!data.envelope) return;
    const { body } = data.envelope;
    this.events.push(body);
    if (body.Failed) this.reject(new Error(body.Failed.sentence));
    if (body === "Done") this.resolve(this.events);
  }

  ask(body, files = []) {
    this.events = [];
    this.last += 1;
    return new Promise((resolve, reject) => {
      Object.assign(this, { resolve, reject });
      this.worker.postMessage({ envelope: { id: this.last, body }, files });
    });
  }
}

// Without a device in its query the worker is the one that every browser can run.
const ventral = (backend, query) => ({
  async load(model) {
    this.client = new Client(query);
    await this.client.hello;
    const started = await this.client.ask({ Start: { backend } });
    const found = started.find((e) => e.Backend).Backend;
    if (found.kind !== backend) throw new Error(found.note || `runs on ${found.kind}`);
    const weights = await (await fetch(`${model.files}.safetensors`)).blob();
    await this.client.ask({ LoadFile: { file_name: `${model.name}.safetensors` } }, [weights]);
    this.side = model.side;
  },
  async run(pixels, batch, labels, wanted, attack = null) {
    const shape = [batch, 3, this.side, this.side];
    const data = new Uint8Array(pixels.buffer, pixels.byteOffset, pixels.byteLength);
    const input = { name: "input", shape, data };
    const taps = wanted === "logits" ? ["logits"] : [];
    const events = await this.client.ask({ Run: { input, normalised: false, taps, noise: null, labels, attack } });
    const tensors = events.find((e) => e.Tensors).Tensors;
    const { data: bytes } = tensors.find((t) => t.name === wanted);
    return new Float32Array(bytes.slice().buffer);
  },
  infer(pixels, batch) {
    return this.run(pixels, batch, [], "logits");
  },
  gradient(pixels, batch) {
    return this.run(pixels, batch, new Array(batch).fill(0), "gradient");
  },
  // In so small a ball that no image stops early.
  pgd(pixels, batch, labels, steps) {
    const named = { name: "pgd", options: { eps: 1e-6, steps } };
    const attack = { attack: { Named: named }, seed: 0, eot: 1, target: null, eight_bit: false };
    return this.run(pixels, batch, labels, "adv", attack);
  },
  end() {
    this.client?.worker.terminate();
  },
});

// A copy each: the number of threads is fixed when the first session is made.
const runtime = async (threads) => {
  const made = await import(`${PEERS}/onnxruntime-web/dist/ort.all.min.mjs?threads=${threads}`);
  const { wasm } = made.env;
  wasm.wasmPaths = new URL(`${PEERS}/onnxruntime-web/dist/`, location.href).href;
  wasm.numThreads = threads;
  return made;
};

const onnx = (provider, threads) => ({
  async load(model) {
    this.runtime = await runtime(threads);
    const executionProviders = [provider];
    this.session = await this.runtime.InferenceSession.create(`${model.files}.onnx`, { executionProviders });
    this.side = model.side;
  },
  async infer(pixels, batch) {
    const input = new this.runtime.Tensor("float32", pixels, [batch, 3, this.side, this.side]);
    const { logits } = await this.session.run({ pixels: input });
    return new Float32Array(logits.data);
  },
  end() {
    return this.session?.release();
  },
});

/// A graph in TensorFlow.js, as its converter would leave it: channels last, norms folded into the
/// convolutions before them wherever these have one use.
class Graph {
  async load(files) {
    const { nodes, weights } = await (await fetch(`${files}.graph.json`)).json();
    const bytes = await (await fetch(`${files}.graph.bin`)).arrayBuffer();
    const uses = {};
    nodes.forEach((node) => node.inputs.forEach((name) => (uses[name] = (uses[name] ?? 0) + 1)));
    const values = {};
    for (const { name, shape, offset } of weights) {
      const count = shape.reduce((a, b) => a * b, 1);
      values[name] = tf.tensor(new Float32Array(bytes, offset, count), shape);
    }
    this.constants = {};
    this.steps = [];
    for (let place = 0; place < nodes.length; place += 1) {
      const node = nodes[place];
      const next = nodes[place + 1];
      if (node.op === "Conv") {
        let output = node.output;
        let norm = null;
        let activation = null;
        const follows = (op, after) => after?.op === op && after.inputs[0] === output && uses[output] === 1;
        if (follows("BatchNormalization", next)) {
          norm = next;
          output = next.output;
          place += 1;
          if (follows("Relu", nodes[place + 1])) {
            activation = "relu";
            output = nodes[place + 1].output;
            place += 1;
          }
        }
        this.steps.push(this.convolution(node, norm, activation, output, values));
      } else {
        this.steps.push(this.other(node, values));
      }
    }
    for (const tensor of Object.values(values)) if (!this.kept?.has(tensor)) tensor.dispose();
  }

  keep(tensor) {
    this.kept ??= new Set();
    this.kept.add(tensor);
    return tensor;
  }

  convolution(node, norm, activation, output, values) {
    const [, gain, beta, mean, variance] = (norm?.inputs ?? []).map((name) => values[name]);
    const scale = norm && tf.tidy(() => gain.div(variance.add(norm.floats.epsilon).sqrt()));
    const filter = tf.tidy(() => {
      const weight = values[node.inputs[1]].transpose([2, 3, 1, 0]);
      return norm ? weight.mul(scale) : weight.clone();
    });
    const bias = norm && tf.tidy(() => beta.sub(mean.mul(scale)));
    scale?.dispose();
    const { strides, pads } = node.ints;
    const pad = pads[0] === 0 ? 0 : [[0, 0], [pads[0], pads[2]], [pads[1], pads[3]], [0, 0]];
    const run = (x) => tf.fused.conv2d({
      x, filter, strides, pad, activation: activation ?? "linear", ...(bias ? { bias } : {}),
    });
    this.keep(filter);
    if (bias) this.keep(bias);
    return { inputs: [node.inputs[0]], output, run };
  }

  other(node, values) {
    const constant = (name) => {
      const value = values[name];
      if (!value) return null;
      return this.keep(value.rank === 4 ? tf.tidy(() => value.transpose([0, 2, 3, 1])) : value);
    };
    const fixed = node.inputs.map(constant);
    const given = node.inputs.filter((_, place) => !fixed[place]);
    const filled = (xs) => {
      let next = 0;
      return fixed.map((value) => value ?? xs[next++]);
    };
    const { strides, pads, kernel_shape: size } = node.ints;
    const does = {
      Add: ([a, b]) => tf.add(a, b),
      Sub: ([a, b]) => tf.sub(a, b),
      Mul: ([a, b]) => tf.mul(a, b),
      Div: ([a, b]) => tf.div(a, b),
      Relu: ([x]) => tf.relu(x),
      Sqrt: ([x]) => tf.sqrt(x),
      Concat: (xs) => tf.concat(xs, 3),
      MaxPool: ([x]) => tf.maxPool(x, size, strides, [[0, 0], [pads[0], pads[2]], [pads[1], pads[3]], [0, 0]]),
      GlobalAveragePool: ([x]) => tf.mean(x, [1, 2], true),
      Flatten: ([x]) => x.reshape([x.shape[0], -1]),
      Gemm: ([x, weight, bias]) => tf.add(tf.matMul(x, weight, false, true), bias),
      BatchNormalization: ([x, gain, bias, mean, variance]) =>
        tf.batchNorm(x, mean, variance, bias, gain, node.floats.epsilon),
    };
    return { inputs: given, output: node.output, run: (...xs) => does[node.op](filled(xs)) };
  }

  forward(pixels) {
    const made = { pixels };
    for (const step of this.steps) made[step.output] = step.run(...step.inputs.map((name) => made[name]));
    return made.logits;
  }
}

const tensorflow = (backend) => ({
  async load(model) {
    tf.wasm?.setWasmPaths?.(`${PEERS}/@tensorflow/tfjs-backend-wasm/dist/`);
    // One thread; and its threads come from a blob, which the page's policy lets no worker come from.
    tf.env().set("WASM_HAS_MULTITHREAD_SUPPORT", false);
    await tf.setBackend(backend);
    await tf.ready();
    if (tf.getBackend() !== backend) throw new Error(`TensorFlow.js has no ${backend} here`);
    this.graph = new Graph();
    await this.graph.load(model.files);
    this.side = model.side;
    this.backend = backend;
  },
  pixels(pixels, batch) {
    return tf.tensor(pixels, [batch, 3, this.side, this.side]).transpose([0, 2, 3, 1]);
  },
  async infer(pixels, batch) {
    await tf.setBackend(this.backend);
    const logits = tf.tidy(() => this.graph.forward(this.pixels(pixels, batch)));
    const values = await logits.data();
    logits.dispose();
    return values;
  },
  async gradient(pixels, batch) {
    await tf.setBackend(this.backend);
    const loss = (x) => {
      const logits = this.graph.forward(x);
      return tf.losses.softmaxCrossEntropy(tf.oneHot(tf.zeros([batch], "int32"), logits.shape[1]), logits);
    };
    const gradient = tf.tidy(() => tf.grad(loss)(this.pixels(pixels, batch)));
    const values = await gradient.data();
    gradient.dispose();
    return values;
  },
  end() {
    this.graph?.kept?.forEach((tensor) => tensor.dispose());
  },
});

const ALL_THREADS = "Ventral, CPU, all threads";

const ENGINES = {
  "Ventral, CPU, 1 thread": () => ventral("cpu", "?device=cpu&threads=1"),
  "Ventral, CPU, 1 thread, no fused multiply-add": () => ventral("cpu", ""),
  [ALL_THREADS]: () => ventral("cpu", "?device=cpu"),
  "Ventral, WebGPU": () => ventral("web-gpu", ""),
  "ONNX Runtime Web, WASM, 1 thread": () => onnx("wasm", 1),
  "ONNX Runtime Web, WASM, all threads": () => onnx("wasm", navigator.hardwareConcurrency),
  "ONNX Runtime Web, WebGPU": () => onnx("webgpu", 1),
  "TensorFlow.js, WASM, 1 thread": () => tensorflow("wasm"),
  "TensorFlow.js, WebGPU": () => tensorflow("webgpu"),
};

const timed = async (work) => {
  const start = performance.now();
  const value = await work();
  return [performance.now() - start, value];
};

/// The largest difference over the largest value.
const apart = (values, reference) => {
  let [most, scale] = [0, 1e-9];
  values.forEach((v, i) => {
    most = Math.max(most, Math.abs(v - reference[i]));
    scale = Math.max(scale, Math.abs(reference[i]));
  });
  return most / scale;
};

/// Numbers that are as good as an image.
const noise = (count) => {
  const pixels = new Float32Array(count);
  let state = 1;
  for (let i = 0; i < count; i += 1) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    pixels[i] = state / 2 ** 32;
  }
  return pixels;
};

/// The class of each image.
const predicted = async (engine, pixels, batch) => {
  const logits = await engine.infer(pixels.slice(), batch);
  const classes = logits.length / batch;
  return Array.from({ length: batch }, (_, image) => {
    const own = logits.slice(image * classes, (image + 1) * classes);
    return own.indexOf(Math.max(...own));
  });
};

/// Ventral's times on one thread as a batch, an image's side and an attack's steps grow: for each of
/// `cases`, `{ batch, side, steps }`, a list of milliseconds; no steps are a forward.
window.growth = async (job) => {
  const engine = ventral("cpu", "?device=cpu&threads=1");
  await engine.load(job);
  const times = job.cases.map(() => []);
  for (let round = 0; round <= job.rounds; round += 1) {
    for (const [place, { batch, side, steps }] of job.cases.entries()) {
      engine.side = side;
      const pixels = noise(batch * 3 * side * side);
      const labels = steps ? await predicted(engine, pixels, batch) : [];
      const work = steps ? () => engine.pgd(pixels, batch, labels, steps) : () => engine.infer(pixels, batch);
      const [time] = await timed(work);
      // In the first round caches are cold.
      if (round > 0) times[place].push(time);
    }
  }
  engine.end();
  return times;
};

/// What the machine's second core adds just then: arithmetic shared by two workers that share nothing
/// else, over the same by one of them. A half is all that a core can add.
class Cores {
  constructor() {
    this.workers = [new Worker("./spin.js"), new Worker("./spin.js")];
  }

  spin(workers, count) {
    const one = (worker) =>
      new Promise((resolve, reject) => {
        worker.onmessage = resolve;
        worker.onerror = (e) => reject(new Error(e.message ?? "the worker did not start"));
        worker.postMessage({ seed: Math.random(), count });
      });
    return timed(() => Promise.all(workers.map(one)));
  }

  async measure() {
    const count = 1 << 24;
    const [both] = await this.spin(this.workers, count / 2);
    const [one] = await this.spin(this.workers.slice(0, 1), count);
    return both / one;
  }

  end() {
    this.workers.forEach((worker) => worker.terminate());
  }
}

// Rounds that are not counted, and how many milliseconds of them at least: a browser compiles what runs often
// a second time meanwhile, on the cores that the engines want, and a GPU's kernels for a gradient when they
// are first asked for.
const WARM_ROUNDS = 2;
const WARM = 15_000;

// Milliseconds between turns.
const PAUSE = 100;
const pause = () => new Promise((resolve) => setTimeout(resolve, PAUSE));

/// One model: `{ name, files, side, batch, rounds, engines, gradients }`. Every engine loads and runs
/// once; then all take turns, `rounds` of them and some before these that are not counted. A turn is two
/// passes: the second is the steady one, the first is kept as `cold`.
window.bench = async (job) => {
  const { side, batch, rounds } = job;
  const pixels = noise(batch * 3 * side * side);
  const lines = [];
  const cores = new Cores();
  let reference;
  for (const name of job.engines) {
    const line = { engine: name, infer: [], gradient: [], cold: { infer: [], gradient: [] } };
    try {
      const engine = ENGINES[name]();
      [line.load] = await timed(() => engine.load(job));
      const [first, logits] = await timed(() => engine.infer(pixels.slice(), batch));
      line.first = first;
      reference ??= logits;
      line.apart = apart(logits, reference);
      line.run = engine;
    } catch (error) {
      line.failed = String(error.message ?? error);
    }
    lines.push(line);
  }
  // An engine's threads stay awake for a while after its turn. Two passes: after another engine's turn
  // caches are cold, and the threads of a pool sleep.
  const turn = async (line, kind) => {
    await pause();
    try {
      const [cold] = await timed(() => line.run[kind](pixels.slice(), batch));
      const [time] = await timed(() => line.run[kind](pixels.slice(), batch));
      return [cold, time];
    } catch (error) {
      if (kind === "infer") throw error;
      line.no_gradient = String(error.message ?? error);
      return [];
    }
  };
  const kinds = [
    ["infer", rounds, (line) => line.run],
    ["gradient", job.gradients ?? 0, (line) => line.run?.gradient && !line.no_gradient],
  ];
  for (const [kind, counted, has] of kinds) {
    const begun = performance.now();
    const isWarm = (round) => round >= WARM_ROUNDS && performance.now() - begun >= WARM;
    for (let round = 0; counted && !isWarm(round); round += 1) {
      for (const line of lines.filter(has)) await turn(line, kind);
    }
    for (let round = 0; round < counted; round += 1) {
      for (const line of lines.filter(has)) {
        const [cold, time] = await turn(line, kind);
        if (time === undefined) continue;
        line[kind].push(time);
        line.cold[kind].push(cold);
        const isShared = kind === "infer" && line.engine === ALL_THREADS;
        if (!isShared) continue;
        await pause();
        (line.cores ??= []).push(await cores.measure());
      }
    }
  }
  cores.end();
  for (const line of lines) {
    await line.run?.end();
    delete line.run;
  }
  return lines;
};
document.body.dataset.ready = "yes";
