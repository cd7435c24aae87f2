//! Says hello and shows what a guest sees of its pod: its arguments, its environment, its files. Then it ends.

use std::{env, fs};

/// The environment variables that Kubernetes and the pod manifest beside this file set.
const SHOWN: [&str; 4] = ["GREETING", "HOSTNAME", "KUBERNETES_SERVICE_HOST", "PATH"];

fn main() {
    let greeting = env::var("GREETING").unwrap_or_else(|_| "Hello".into());
    println!("{greeting} from WebAssembly!");

    println!("arguments: {:?}", env::args().collect::<Vec<_>>());
    for name in SHOWN {
        if let Ok(value) = env::var(name) {
            println!("environment: {name}={value}");
        }
    }
    match fs::read_to_string("/etc/hostname") {
        Ok(name) => println!("hostname: {}", name.trim()),
        Err(error) => println!("hostname: not known ({error})"),
    }
    match fs::read_dir("/") {
        Ok(entries) => {
            let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
            names.sort();
            println!("files at /: {names:?}");
        }
        Err(error) => println!("files at /: none ({error})"),
    }
}
