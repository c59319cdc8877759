//! What is known of the functions and classes a pickle may name. None of them is ever run: the
//! tables decide only whether a file is refused, remarked upon, or taken without a word.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Met in honest checkpoints; its result is not needed for a tensor.
    Harmless,
    /// Nothing is known.
    Unknown,
    /// Starts programs, reaches files or the network, or runs code: an attack.
    Dangerous,
}

/// Modules (with all below them) whose functions have no business in a file of weights.
const DANGEROUS_MODULES: &[&str] = &[
    "_aix_support",
    "_io",
    "_osx_support",
    "_pickle",
    "_posixsubprocess",
    "_pyrepl",
    "_winapi",
    "aiohttp",
    "asyncio",
    "bdb",
    "cProfile",
    "cffi",
    "cloudpickle",
    "cPickle",
    "code",
    "codeop",
    "commands",
    "ctypes",
    "dill",
    "distutils",
    "doctest",
    "ensurepip",
    "fileinput",
    "ftplib",
    "gc",
    "http",
    "httpx",
    "idlelib",
    "imaplib",
    "importlib",
    "inspect",
    "io",
    "joblib",
    "lib2to3",
    "linecache",
    "logging.config",
    "marshal",
    "multiprocessing",
    "nt",
    "numpy.f2py",
    "numpy.fromfile",
    "numpy.lib",
    "numpy.load",
    "numpy.loadtxt",
    "numpy.memmap",
    "numpy.testing",
    "operator",
    "os",
    "pdb",
    "pickle",
    "pip",
    "pkgutil",
    "platform",
    "popen2",
    "poplib",
    "posix",
    "profile",
    "pty",
    "pydoc",
    "requests",
    "runpy",
    "setuptools",
    "shelve",
    "shutil",
    "signal",
    "site",
    "smtplib",
    "socket",
    "socketserver",
    "ssl",
    "subprocess",
    "sys",
    "tarfile",
    "telnetlib",
    "tempfile",
    "test.support",
    "threading",
    "timeit",
    "torch._C",
    "torch._dynamo",
    "torch._inductor",
    "torch.distributed",
    "torch.hub",
    "torch.jit",
    "torch.load",
    "torch.ops",
    "torch.package",
    "torch.serialization",
    "torch.testing",
    "torch.utils.cpp_extension",
    "torch.utils.model_zoo",
    "trace",
    "types",
    "unittest",
    "urllib",
    "urllib2",
    "urllib3",
    "venv",
    "webbrowser",
    "win32api",
    "xmlrpc",
    "zipfile",
];

/// Built-in functions that run code or reach files.
const DANGEROUS_BUILTINS: &[&str] = &[
    "__import__",
    "apply",
    "breakpoint",
    "compile",
    "delattr",
    "eval",
    "exec",
    "execfile",
    "exit",
    "file",
    "globals",
    "help",
    "input",
    "locals",
    "open",
    "quit",
    "reload",
    "setattr",
    "vars",
];

/// Built-in constructors of plain values.
const HARMLESS_BUILTINS: &[&str] = &[
    "bool",
    "bytearray",
    "bytes",
    "complex",
    "dict",
    "float",
    "frozenset",
    "int",
    "list",
    "long",
    "object",
    "range",
    "set",
    "slice",
    "str",
    "tuple",
    "unicode",
    "xrange",
];

/// Single callables that are harmless although their module is not, or is not known.
const HARMLESS: &[&str] = &[
    "_codecs.encode",
    "argparse.Namespace",
    "copy_reg.__newobj__",
    "copy_reg._reconstructor",
    "copyreg.__newobj__",
    "copyreg._reconstructor",
    "decimal.Decimal",
    "fractions.Fraction",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "torch._C._nn.gelu",
    "torch.serialization._get_layout",
    "types.SimpleNamespace",
    "uuid.UUID",
];

/// Modules (with all below them) whose classes are only settings, states or plain values.
const HARMLESS_MODULES: &[&str] = &[
    "addict",
    "collections",
    "datetime",
    "easydict",
    "ml_collections",
    "numpy",
    "omegaconf",
    "pathlib",
    "torch",
    "torchvision",
    "yacs",
];

/// Judges `module.name`.
pub(super) fn verdict(module: &str, name: &str) -> Verdict {
    let full = format!("{module}.{name}");
    if HARMLESS.contains(&full.as_str()) {
        return Verdict::Harmless;
    }
    if matches!(module, "builtins" | "__builtin__") {
        return builtin(name);
    }
    // The whole path is looked at: `torch.hub` is a module, `torch.load` a function.
    if within(DANGEROUS_MODULES, &full) {
        return Verdict::Dangerous;
    }
    if within(HARMLESS_MODULES, &full) {
        return Verdict::Harmless;
    }
    Verdict::Unknown
}

fn builtin(name: &str) -> Verdict {
    // Protocol 4 allows dotted names: `eval.__call__` is `eval`.
    let root = name.split('.').next().unwrap_or(name);
    if DANGEROUS_BUILTINS.contains(&root) {
        Verdict::Dangerous
    } else if HARMLESS_BUILTINS.contains(&name) {
        Verdict::Harmless
    } else {
        Verdict::Unknown
    }
}

fn within(modules: &[&str], path: &str) -> bool {
    modules.iter().any(|module| {
        path.strip_prefix(module)
            .is_some_and(|rest| rest.starts_with('.') || rest.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callables_are_judged_by_their_whole_path() {
        let cases = [
            ("os", "system", Verdict::Dangerous),
            ("posix", "system", Verdict::Dangerous),
            ("builtins", "eval", Verdict::Dangerous),
            ("__builtin__", "set", Verdict::Harmless),
            ("builtins", "getattr", Verdict::Unknown),
            ("torch", "device", Verdict::Harmless),
            ("torch", "load", Verdict::Dangerous),
            ("torch.hub", "load", Verdict::Dangerous),
            ("torch.optim.sgd", "SGD", Verdict::Harmless),
            ("argparse", "Namespace", Verdict::Harmless),
            ("osmosis", "Config", Verdict::Unknown),
            ("types", "FunctionType", Verdict::Dangerous),
            ("types", "SimpleNamespace", Verdict::Harmless),
        ];
        for (module, name, expected) in cases {
            assert_eq!(verdict(module, name), expected, "{module}.{name}");
        }
    }
}
