//! The two wasmtime configurations of the project: for commands, and for services.
//!
//! The supervisor, every guest process and the compiler build their engines here and nowhere else: compiled code is
//! mapped without being checked instruction by instruction, so the two sides must agree on every setting, and the
//! [`fingerprint`] says whether they do.
//!
//! A command has its process for itself; the kernel preempts, limits and kills it, so its code carries no checks. Requests to
//! a service share one, so the code of services looks at an epoch in every loop and function, and their memories come from
//! a pool.
//!
//! Building an engine starts no thread, so a process that has one may still fork.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::num::NonZeroUsize;

pub use wasmtime::Engine;
use wasmtime::{Collector, Config, InstanceAllocationStrategy, PoolingAllocationConfig, ProfilingStrategy, WasmBacktraceDetails};

/// Stack that wasm code may use, in bytes. Twice wasmtime's default: interpreters compiled to wasm (CPython, QuickJS)
/// recurse deeply. It is address space; only touched pages cost memory.
const WASM_STACK: usize = 1 << 20;

/// Stack of a guest, in bytes: the wasm stack and 512 KiB for the host functions that run on top of it.
const GUEST_STACK: usize = WASM_STACK + (512 << 10);

/// Frames of a backtrace: what fits into a termination message of 4 KiB at about 100 bytes a frame.
const BACKTRACE_FRAMES: NonZeroUsize = NonZeroUsize::new(32).unwrap();

/// The engine could not be built for this machine.
#[derive(Debug, thiserror::Error)]
#[error("cannot configure the wasm engine for this machine: {message}")]
pub struct EngineError {
    message: String,
}

/// Bytes of a memory that an instance leaves behind in the pool which are cleared by hand for the next one: less work than giving
/// them to the kernel and taking them again, page by page. The same for tables.
const KEPT_BYTES: usize = 64 << 10;

/// Core instances, memories and tables of a component, at most, in a pool. Toolchains make three to five instances, of which
/// one or two have a memory.
const PARTS_OF_COMPONENT: u32 = 20;

/// Elements of a table in a pool, at most. wasmtime's default; interpreters compiled to wasm have some 10,000.
const TABLE_ELEMENTS: usize = 20_000;

/// What an engine does for people who tune guests. Compiled code does not depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tools {
    /// Tells this profiler where functions lie when code is loaded.
    pub profiler: Option<ProfilingStrategy>,
    /// Keeps the state of instances with a trap.
    pub core_dumps: bool,
}

impl Tools {
    fn add_to(self, mut config: Config) -> Config {
        if let Some(profiler) = self.profiler {
            config.profiler(profiler);
        }
        config.coredump_on_trap(self.core_dumps);
        config
    }
}

/// Builds the engine of commands.
///
/// # Errors
/// The processor lacks what wasmtime needs, or address space cannot be reserved.
pub fn new() -> Result<Engine, EngineError> {
    build(&config())
}

/// The same with tools.
///
/// # Errors
/// As of [`new`]; and the profiler's file cannot be made.
pub fn command_with(tools: &Tools) -> Result<Engine, EngineError> {
    build(&tools.add_to(config()))
}

/// Builds the engine of services, whose memories are made as they are needed.
///
/// # Errors
/// As of [`new`].
pub fn service() -> Result<Engine, EngineError> {
    build(&service_config())
}

/// The same with tools.
///
/// # Errors
/// As of [`command_with`].
pub fn service_with(tools: &Tools) -> Result<Engine, EngineError> {
    build(&tools.add_to(service_config()))
}

/// Builds the engine of services with a pool for so many instances at once. Its address space, 4 GiB for each, is reserved now;
/// where there is less, as on 39-bit machines, memories are made as they are needed.
///
/// # Errors
/// As of [`new`].
pub fn pooled_service(instances: u32, tools: &Tools) -> Result<Engine, EngineError> {
    let mut pool = PoolingAllocationConfig::new();
    let parts = instances.saturating_mul(3);
    pool.total_component_instances(instances)
        .total_core_instances(parts.saturating_add(PARTS_OF_COMPONENT))
        .total_memories(instances.saturating_add(PARTS_OF_COMPONENT))
        .total_tables(parts.saturating_add(PARTS_OF_COMPONENT))
        .total_stacks(instances)
        .total_gc_heaps(instances)
        .max_core_instances_per_component(PARTS_OF_COMPONENT)
        .max_memories_per_component(PARTS_OF_COMPONENT)
        .max_tables_per_component(PARTS_OF_COMPONENT)
        .max_memories_per_module(PARTS_OF_COMPONENT)
        .max_tables_per_module(PARTS_OF_COMPONENT)
        .max_core_instance_size(1 << 20)
        .max_component_instance_size(1 << 20)
        .table_elements(TABLE_ELEMENTS)
        .linear_memory_keep_resident(KEPT_BYTES)
        .table_keep_resident(KEPT_BYTES);
    let mut config = tools.add_to(service_config());
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    build(&config).or_else(|_| service_with(tools))
}

fn build(config: &Config) -> Result<Engine, EngineError> {
    Engine::new(config).map_err(|error| EngineError { message: format!("{error:#}") })
}

fn service_config() -> Config {
    let mut config = config();
    config.epoch_interruption(true);
    config
}

fn config() -> Config {
    let mut config = Config::new();
    // All proposals of Wasm 3.0 and the component model with async are on by default in wasmtime 48, and atomic instructions.
    // Off, on purpose: everything that wasmtime calls incomplete or does not fix security bugs in (shared memories, stack
    // switching, custom page sizes, wide arithmetic). docs/guests-wasm.md lists them. The collector of the proposal GC is
    // named because the default of a later wasmtime is another.
    config
        .allocation_strategy(InstanceAllocationStrategy::OnDemand)
        // Data segments are mapped from the compiled file and copied page by page on the first write.
        .memory_init_cow(true)
        .max_wasm_stack(WASM_STACK)
        .collector(Collector::DeferredReferenceCounting)
        .async_stack_size(GUEST_STACK)
        // Names, offsets and, where the guest has DWARF, lines of the frames of a trap. All of it stays in the file
        // until a trap needs it. Set here rather than by WASMTIME_BACKTRACE_DETAILS, which would change the fingerprint.
        .generate_address_map(true)
        .wasm_backtrace_details(WasmBacktraceDetails::Enable)
        .wasm_backtrace_max_frames(Some(BACKTRACE_FRAMES))
        // For native debuggers only; registering it costs time and memory in every guest process. Profilers are served by `Tools`.
        .native_unwind_info(false)
        .parallel_compilation(true);
    config
}

/// Hexadecimal name, of 32 characters, of everything that compiled code depends on: wasmtime's version, the settings
/// above, the target and the processor's features. Code is loaded only by engines of the same fingerprint.
pub fn fingerprint(commands: &Engine, services: &Engine) -> String {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(salt);
        commands.precompile_compatibility_hash().hash(&mut hasher);
        services.precompile_compatibility_hash().hash(&mut hasher);
        hasher.finish()
    };
    format!("{:016x}{:016x}", half(0), half(1))
}

#[cfg(test)]
mod tests {
    use wasmtime::Module;

    use super::*;

    #[test]
    fn engines_of_one_configuration_have_one_fingerprint() {
        let of_this_machine = || fingerprint(&new().unwrap(), &service().unwrap());
        let first = of_this_machine();
        assert_eq!(first, of_this_machine());
        assert_eq!(first.len(), 32);
        assert!(first.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }

    #[test]
    fn tools_do_not_change_what_code_depends_on() {
        let tools = Tools { profiler: None, core_dumps: true };
        let engines = (command_with(&tools).unwrap(), service_with(&tools).unwrap());
        assert_eq!(fingerprint(&engines.0, &engines.1), fingerprint(&new().unwrap(), &service().unwrap()));
    }

    #[test]
    fn a_pool_runs_what_is_compiled_without_one() {
        let code = Module::new(&service().unwrap(), "(module)").unwrap().serialize().unwrap();
        let pooled = pooled_service(10, &Tools::default()).unwrap();
        // SAFETY: it was serialized a line above.
        assert!(unsafe { Module::deserialize(&pooled, &code) }.is_ok());
        // SAFETY: likewise.
        assert!(unsafe { Module::deserialize(&new().unwrap(), &code) }.is_err());
    }

    #[test]
    fn where_there_is_little_address_space_a_service_does_without_a_pool() {
        crate::guest::testing::in_own_process(
            "engine::tests::where_there_is_little_address_space_a_service_does_without_a_pool",
            || {
                let limit = rustix::process::Rlimit { current: Some(16 << 30), maximum: Some(16 << 30) };
                rustix::process::setrlimit(rustix::process::Resource::As, limit).unwrap();
                let engine = pooled_service(1000, &Tools::default()).unwrap();
                assert!(Module::new(&engine, "(module (memory 1))").is_ok());
            },
        );
    }

    #[test]
    fn preparing_guests_starts_no_thread() {
        // Other tests run in threads of this process, so the question is put to one of its own.
        crate::guest::testing::in_own_process("engine::tests::preparing_guests_starts_no_thread", || {
            let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
            let before = threads();
            let engine = new().unwrap();
            let _ = fingerprint(&engine, &service().unwrap());
            let _prepared = crate::guest::Prepared::new(engine).unwrap();
            assert_eq!(threads(), before);
        });
    }
}
