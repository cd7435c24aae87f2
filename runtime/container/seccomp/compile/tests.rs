use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;

fn here() -> Surroundings {
    Surroundings { capabilities: 1 << 21, arch: "amd64", kernel: (6, 1) }
}

fn compiled(text: &str) -> Result<Compiled, ProfileError> {
    compile(&serde_json::from_str(text).unwrap(), &here())
}

/// What the kernel would answer, by a small machine for the instructions that seccompiler emits.
fn answer(programs: &[SeccompProgram], call: i64, arguments: [u64; 6]) -> u32 {
    let mut data = Vec::new();
    data.extend(i32::try_from(call).unwrap().to_ne_bytes());
    // AUDIT_ARCH_X86_64 or AUDIT_ARCH_AARCH64.
    data.extend(if cfg!(target_arch = "x86_64") { 0xc000_003e_u32 } else { 0xc000_00b7 }.to_ne_bytes());
    data.extend(0u64.to_ne_bytes());
    arguments.iter().for_each(|argument| data.extend(argument.to_ne_bytes()));
    // Of all answers the one with the smallest action, as a signed number, counts; of equal ones the first from the newest on.
    let answers = programs.iter().rev().map(|program| run(&program.0, &data));
    answers.min_by_key(|answer| (answer & 0xffff_0000).cast_signed()).unwrap_or(0x7fff_0000)
}

fn run(program: &[u8], data: &[u8]) -> u32 {
    let (mut at, mut accumulator) = (0usize, 0u32);
    loop {
        let bytes = &program[at * 8..at * 8 + 8];
        let code = u16::from_ne_bytes([bytes[0], bytes[1]]);
        let (jt, jf) = (usize::from(bytes[2]), usize::from(bytes[3]));
        let k = u32::from_ne_bytes(bytes[4..8].try_into().unwrap());
        let mut branch = |holds: bool| at += if holds { jt } else { jf };
        match code {
            0x20 => accumulator = u32::from_ne_bytes(data[k as usize..k as usize + 4].try_into().unwrap()),
            0x54 => accumulator &= k,
            0x15 => branch(accumulator == k),
            0x25 => branch(accumulator > k),
            0x35 => branch(accumulator >= k),
            0x05 => at += k as usize,
            0x06 => return k,
            other => panic!("instruction {other:x}"),
        }
        at += 1;
    }
}

const ALLOW: u32 = 0x7fff_0000;
const KILL: u32 = 0x8000_0000;

fn errno(number: u32) -> u32 {
    0x0005_0000 | number
}

#[test]
fn a_list_of_what_is_denied() {
    let denied = compiled(
        r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"],"syscalls":[
            {"names":["mkdirat","chmod","nosuchcall"],"action":"SCMP_ACT_ERRNO"},
            {"name":"fsync","action":"SCMP_ACT_ERRNO","errnoRet":5},
            {"names":["mount"],"action":"SCMP_ACT_KILL"}]}"#,
    )
    .unwrap();
    assert_eq!(denied.programs.len(), 3);
    assert_eq!(denied.unknown, ["nosuchcall"]);
    let answers = |call| answer(&denied.programs, call, [0; 6]);
    assert_eq!(answers(libc::SYS_mkdirat), errno(1));
    assert_eq!(answers(libc::SYS_fsync), errno(5));
    assert_eq!(answers(libc::SYS_mount), KILL);
    assert_eq!(answers(libc::SYS_openat), ALLOW);
}

#[test]
fn a_list_of_what_is_allowed_and_the_runtime_can_still_install_its_own_filter() {
    let allowed = compiled(
        r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"syscalls":[
            {"names":["read","write"],"action":"SCMP_ACT_ALLOW","args":[]},
            {"names":["clone3"],"action":"SCMP_ACT_ERRNO","errnoRet":1},
            {"names":["seccomp"],"action":"SCMP_ACT_KILL_PROCESS"}]}"#,
    )
    .unwrap();
    let answers = |call| answer(&allowed.programs, call, [0; 6]);
    assert_eq!(answers(libc::SYS_read), ALLOW);
    assert_eq!(answers(libc::SYS_clone3), errno(1));
    assert_eq!(answers(libc::SYS_openat), errno(38));
    assert_eq!(answers(libc::SYS_seccomp), ALLOW);
}

#[test]
fn conditions_on_arguments() {
    let rules = |args: &str| {
        let text = format!(
            r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{{"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[{args}]}}]}}"#
        );
        compiled(&text).unwrap().programs
    };
    let allows =
        |programs: &[SeccompProgram], first, second| answer(programs, libc::SYS_socket, [first, second, 0, 0, 0, 0]) == ALLOW;
    let both = rules(r#"{"index":0,"value":2,"op":"SCMP_CMP_EQ"},{"index":1,"value":3,"op":"SCMP_CMP_NE"}"#);
    assert!(allows(&both, 2, 1) && !allows(&both, 2, 3) && !allows(&both, 3, 1));
    // The same argument twice: either.
    let either = rules(r#"{"index":0,"value":2,"op":"SCMP_CMP_EQ"},{"index":0,"value":10,"op":"SCMP_CMP_EQ"}"#);
    assert!(allows(&either, 2, 0) && allows(&either, 10, 0) && !allows(&either, 16, 0));
    let masked = rules(r#"{"index":1,"value":2114060288,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}"#);
    assert!(allows(&masked, 0, 0x0001_0000) && !allows(&masked, 0, 0x1000_0000));
    let wide = rules(r#"{"index":0,"value":4294967296,"op":"SCMP_CMP_GE"}"#);
    assert!(allows(&wide, 1 << 32, 0) && !allows(&wide, 5, 0));
}

#[test]
fn rules_that_depend_on_the_surroundings() {
    let counts = |member: &str| {
        let text = format!(
            r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{{"names":["bpf"],"action":"SCMP_ACT_ERRNO",{member}}}]}}"#
        );
        answer(&compiled(&text).unwrap().programs, libc::SYS_bpf, [0; 6]) != ALLOW
    };
    for member in [
        r#""includes":{}"#,
        r#""includes":{"caps":["CAP_SYS_ADMIN"],"arches":["arm","amd64"],"minKernel":"4.8"}"#,
        r#""excludes":{"caps":["CAP_BPF"],"arches":["s390x"],"minKernel":"6.2"}"#,
        r#""includes":{"caps":null}"#,
    ] {
        assert!(counts(member), "{member}");
    }
    for member in [
        r#""includes":{"caps":["CAP_SYS_ADMIN","CAP_BPF"]}"#,
        r#""includes":{"arches":["s390x"]}"#,
        r#""includes":{"minKernel":"6.2"}"#,
        r#""excludes":{"caps":["CAP_SYS_ADMIN"]}"#,
        r#""excludes":{"arches":["amd64"]}"#,
        r#""excludes":{"minKernel":"6.1"}"#,
    ] {
        assert!(!counts(member), "{member}");
    }
}

#[test]
fn what_cannot_be_done_is_named_with_its_call() {
    let said =
        |rule: &str| compiled(&format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{rule}]}}"#)).unwrap_err().to_string();
    for (rule, wanted) in [
        (r#"{"names":["bpf"],"action":"SCMP_ACT_X"}"#, r#"bpf: "SCMP_ACT_X" is no action"#),
        (r#"{"names":["bpf"],"action":"SCMP_ACT_NOTIFY"}"#, "bpf: SCMP_ACT_NOTIFY needs an agent"),
        (r#"{"names":["bpf"],"action":"SCMP_ACT_ERRNO","errnoRet":4096}"#, "bpf: 4096 is no error number"),
        (r#"{"names":[],"action":"SCMP_ACT_ERRNO"}"#, "names no system call"),
        (r#"{"names":["bpf"],"action":"SCMP_ACT_LOG","args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]}"#, "no argument 6"),
        (
            r#"{"names":["bpf"],"action":"SCMP_ACT_LOG","args":[{"index":0,"value":0,"op":"EQ"}]}"#,
            r#"bpf: "EQ" is no comparison"#,
        ),
        (r#"{"names":["bpf"],"action":"SCMP_ACT_LOG","includes":{"caps":["CAP_X"]}}"#, r#"bpf: "CAP_X" is no capability"#),
        (r#"{"names":["bpf"],"action":"SCMP_ACT_LOG","includes":{"minKernel":"x"}}"#, r#"bpf: minKernel "x""#),
    ] {
        assert!(said(rule).contains(wanted), "{}", said(rule));
    }
    let answers: Vec<String> =
        (1..20).map(|errno| format!(r#"{{"names":["bpf"],"action":"SCMP_ACT_ERRNO","errnoRet":{errno}}}"#)).collect();
    assert!(said(&answers.join(",")).contains("more than 8 different answers"));
    let condition = r#"{"names":["bpf"],"action":"SCMP_ACT_LOG","args":[{"index":0,"value":0,"op":"SCMP_CMP_EQ"}]}"#;
    assert!(!said(&vec![condition; 2000].join(",")).is_empty(), "more instructions than the kernel takes");
}

#[test]
fn any_profile_is_compiled_or_refused_without_a_panic() {
    let word = prop_oneof![
        Just("SCMP_ACT_ERRNO".to_owned()),
        Just("SCMP_ACT_ALLOW".into()),
        Just("SCMP_ACT_KILL".into()),
        Just("SCMP_ACT_LOG".into()),
        Just("SCMP_ACT_TRACE".into()),
        Just("read".into()),
        Just("socket".into()),
        Just("seccomp".into()),
        Just("SCMP_CMP_EQ".into()),
        Just("SCMP_CMP_MASKED_EQ".into()),
        Just("CAP_SYS_ADMIN".into()),
        ".*",
    ];
    let argument = (any::<u32>(), any::<u64>(), proptest::option::of(any::<u64>()), word.clone())
        .prop_map(|(index, value, value_two, op)| Argument { index: index % 8, value, value_two, op });
    let only = (proptest::option::of(proptest::collection::vec(word.clone(), 0..2)), proptest::option::of(".*"))
        .prop_map(|(caps, min_kernel)| Only { caps, arches: None, min_kernel });
    let rule = (
        proptest::collection::vec(word.clone(), 0..4),
        word.clone(),
        proptest::option::of(any::<u32>()),
        proptest::collection::vec(argument, 0..4),
        proptest::option::of(only),
    )
        .prop_map(|(names, action, errno_ret, args, includes)| Rule {
            names: Some(names),
            action,
            errno_ret,
            args: Some(args),
            includes,
            ..Rule::default()
        });
    let profile = (word, proptest::collection::vec(rule, 0..8)).prop_map(|(default_action, rules)| Profile {
        default_action,
        syscalls: Some(rules),
        ..Profile::default()
    });
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    runner
        .run(&profile, |profile| {
            if let Ok(compiled) = compile(&profile, &here()) {
                prop_assert!(compiled.programs.len() <= MAX_PROGRAMS);
                for call in [libc::SYS_read, libc::SYS_socket] {
                    answer(&compiled.programs, call, [1, 2, 3, 4, 5, 6]);
                }
            }
            Ok(())
        })
        .unwrap();
}
