//! What a worker gives up before its first file: new files, the network, other processes, memory beyond the budget. What the kernel does
//! not know is named, and the rest still holds.

use std::collections::BTreeMap;

use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetError, RulesetStatus, Scope};
use rustix::process::{Resource, Rlimit, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

/// What the worker does once it works: it reads, writes, takes memory, looks at clocks, lowers its limits and ends.
const ALLOWED: [libc::c_long; 30] = [
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigaction,
    libc::SYS_sigaltstack,
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
    libc::SYS_prlimit64,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_close,
    libc::SYS_restart_syscall,
    // An abort is a signal to itself.
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_tgkill,
    // The allocator and the standard library ask for these now and then.
    libc::SYS_ppoll,
    libc::SYS_fstat,
    libc::SYS_lseek,
    libc::SYS_rseq,
    libc::SYS_membarrier,
];

/// Confines this process; what could not be had is in the answer, a line each.
pub(crate) fn confine(memory_bytes: u64) -> Vec<String> {
    let mut missing = Vec::new();
    // Read before files are forbidden.
    let memory = address_space().saturating_add(memory_bytes);
    // Before the limit of files: its rules are made behind a descriptor.
    match landlock() {
        Ok(RulesetStatus::FullyEnforced) => {}
        Ok(RulesetStatus::PartiallyEnforced) => {
            missing.push("landlock: the kernel knows only a part of it".to_owned())
        }
        Ok(RulesetStatus::NotEnforced) => missing.push("landlock: the kernel does not have it".to_owned()),
        Err(error) => missing.push(format!("landlock: {error}")),
    }
    let limits = [
        ("core files", Resource::Core, 0),
        ("files", Resource::Nofile, 3),
        ("file size", Resource::Fsize, 0),
        ("memory", Resource::As, memory),
    ];
    for (name, resource, most) in limits {
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        if let Err(error) = setrlimit(resource, limit) {
            missing.push(format!("limit of {name}: {error}"));
        }
    }
    // Last: it forbids what the others are made with.
    if let Err(error) = seccomp() {
        missing.push(format!("seccomp: {error}"));
    }
    missing
}

/// No file by its path, no port, no socket or signal of other processes.
fn landlock() -> Result<RulesetStatus, RulesetError> {
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V5))?
        .handle_access(AccessNet::from_all(ABI::V5))?
        .scope(Scope::from_all(ABI::V6))?
        .create()?
        .restrict_self()?;
    Ok(status.ruleset)
}

/// Any other system call ends the process, and so does memory that could be run as a program.
fn seccomp() -> Result<(), Box<dyn std::error::Error>> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    let executable = u64::try_from(libc::PROT_EXEC)?;
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        let not_executable =
            SeccompCondition::new(2, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(executable), 0)?;
        rules.insert(call, vec![SeccompRule::new(vec![not_executable])?]);
    }
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    let filter = SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, architecture)?;
    seccompiler::apply_filter(&BpfProgram::try_from(filter)?)?;
    Ok(())
}

/// What this process has mapped, in bytes; with a little room for what comes later.
pub(crate) fn address_space() -> u64 {
    const ROOM: u64 = 32 * 1024 * 1024;
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    // Without /proc: more than any build of the program maps.
    pages.map_or(1 << 30, |pages| pages.saturating_mul(page)).saturating_add(ROOM)
}

/// Holds the next job to so much memory beside what was mapped before the first, and so much processor time from now on.
pub(crate) fn limit_job(mapped: u64, memory_bytes: u64, cpu_seconds: u64) -> Result<(), rustix::io::Errno> {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let used = u64::try_from(used.tv_sec).unwrap_or(0);
    let lower = |resource: Resource, most: u64| {
        let maximum = rustix::process::getrlimit(resource).maximum;
        let current = Some(maximum.map_or(most, |maximum| most.min(maximum)));
        setrlimit(resource, Rlimit { current, maximum })
    };
    lower(Resource::As, mapped.saturating_add(memory_bytes))?;
    lower(Resource::Cpu, used.saturating_add(cpu_seconds).saturating_add(1))
}
