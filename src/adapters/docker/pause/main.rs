//! The pause program: the night watchman of a pod. He opens the house, gives away all his keys, and
//! then only waits, so that the network the others live in stays when they come and go.
//!
//! ```text
//!   pause own-network   block signals ▸ new network namespace ▸ lo up ▸ drop rights ▸ wait
//!   pause               block signals ▸ drop rights ▸ wait
//! ```
//!
//! Its namespace of its own is a third faster than one made by Docker (docs/DESIGN.md §5). It has
//! no libc and allocates nothing: every line below is a system call or counts up to one. Dropping
//! the rights comes last, so whoever sees them gone knows that everything before has happened.
//!
//! Docker starts it without a filter of system calls, because making one takes Docker longer than
//! everything else here. It gives itself a stricter one: what it needs to wait, and nothing else.
//!
//! As process 1 of a shared pid namespace it reaps what is orphaned there. It ends at once on TERM
//! or INT. Exit codes above 100 say which step failed; the step is also written to standard error.
#![no_std]
#![no_main]

use core::arch::{asm, global_asm};

// The kernel starts a program with argc and argv on the stack (System V ABI, "Process
// Initialization"); the stack pointer is handed on as the only argument.
#[cfg(target_arch = "x86_64")]
global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {main}",
    "ud2",
    main = sym main,
);

#[cfg(target_arch = "aarch64")]
global_asm!(
    ".globl _start",
    "_start:",
    "mov x29, xzr",
    "mov x30, xzr",
    "mov x0, sp",
    "bl {main}",
    "brk #1",
    main = sym main,
);

/// System call numbers, which differ by architecture (`asm/unistd.h`).
#[cfg(target_arch = "x86_64")]
mod number {
    pub const WRITE: usize = 1;
    pub const RT_SIGPROCMASK: usize = 14;
    pub const IOCTL: usize = 16;
    pub const SOCKET: usize = 41;
    pub const EXIT: usize = 60;
    pub const WAIT4: usize = 61;
    pub const CAPSET: usize = 126;
    pub const RT_SIGTIMEDWAIT: usize = 128;
    pub const PRCTL: usize = 157;
    pub const UNSHARE: usize = 272;
    /// `AUDIT_ARCH_X86_64`.
    pub const ARCH: u32 = 0xc000_003e;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub const WRITE: usize = 64;
    pub const RT_SIGPROCMASK: usize = 135;
    pub const IOCTL: usize = 29;
    pub const SOCKET: usize = 198;
    pub const EXIT: usize = 93;
    pub const WAIT4: usize = 260;
    pub const CAPSET: usize = 91;
    pub const RT_SIGTIMEDWAIT: usize = 137;
    pub const PRCTL: usize = 167;
    pub const UNSHARE: usize = 97;
    /// `AUDIT_ARCH_AARCH64`.
    pub const ARCH: u32 = 0xc000_00b7;
}

const CLONE_NEWNET: usize = 0x4000_0000;
const AF_INET: usize = 2;
const SOCK_DGRAM: usize = 2;
const SIOCSIFFLAGS: usize = 0x8914;
const IFF_UP_RUNNING: u16 = 0x1 | 0x40;
const PR_CAPBSET_DROP: usize = 24;
const PR_SET_NO_NEW_PRIVS: usize = 38;
const PR_SET_SECCOMP: usize = 22;
const SECCOMP_MODE_FILTER: usize = 2;
const PR_CAP_AMBIENT: usize = 47;
const PR_CAP_AMBIENT_CLEAR_ALL: usize = 4;
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;
/// Capability sets have 64 bits; the kernel says EINVAL for the first it doesn't know.
const CAPABILITIES_MAX: usize = 64;
const EINVAL: isize = -22;
const SIG_BLOCK: usize = 0;
const SIGINT: u32 = 2;
const SIGTERM: u32 = 15;
const SIGCHLD: u32 = 17;
const WNOHANG: usize = 1;
const ANY_CHILD: usize = usize::MAX;
/// The kernel's signal sets have 64 bits.
const SIGNAL_SET_BYTES: usize = 8;

/// # Safety
/// As safe as the system call asked for: pointers among the arguments must be valid for it.
#[cfg(target_arch = "x86_64")]
unsafe fn call(number: usize, a: usize, b: usize, c: usize, d: usize, e: usize) -> isize {
    let answer: isize;
    // SAFETY: the Linux convention for system calls; rcx and r11 are lost.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => answer,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    answer
}

/// # Safety
/// As safe as the system call asked for: pointers among the arguments must be valid for it.
#[cfg(target_arch = "aarch64")]
unsafe fn call(number: usize, a: usize, b: usize, c: usize, d: usize, e: usize) -> isize {
    let answer: isize;
    // SAFETY: the Linux convention for system calls.
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a as isize => answer,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e,
            options(nostack),
        );
    }
    answer
}

/// `struct ifreq`, as far as flags need it.
#[repr(C)]
struct InterfaceFlags {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

/// `struct sock_filter`: one instruction of a filter.
#[repr(C)]
struct Instruction {
    code: u16,
    if_true: u8,
    if_false: u8,
    value: u32,
}

/// `struct sock_fprog`.
#[repr(C)]
struct Filter {
    length: u16,
    first: *const Instruction,
}

const LOAD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
/// Where `struct seccomp_data` has the call's number and the architecture it is a number of.
const DATA_NUMBER: u32 = 0;
const DATA_ARCH: u32 = 4;
const ALLOW: u32 = 0x7fff_0000;
const REFUSE: u32 = 0x0005_0000 | 1; // EPERM

const fn step(code: u16, if_true: u8, if_false: u8, value: u32) -> Instruction {
    Instruction {
        code,
        if_true,
        if_false,
        value,
    }
}

/// Jumps count the instructions passed over.
static WAITING_ONLY: [Instruction; 8] = [
    step(LOAD, 0, 0, DATA_ARCH),
    step(JUMP_IF_EQUAL, 0, 4, number::ARCH),
    step(LOAD, 0, 0, DATA_NUMBER),
    step(JUMP_IF_EQUAL, 3, 0, number::RT_SIGTIMEDWAIT as u32),
    step(JUMP_IF_EQUAL, 2, 0, number::WAIT4 as u32),
    step(JUMP_IF_EQUAL, 1, 0, number::EXIT as u32),
    step(RETURN, 0, 0, REFUSE),
    step(RETURN, 0, 0, ALLOW),
];

const fn bit(signal: u32) -> u64 {
    1 << (signal - 1)
}

const WAITED_FOR: u64 = bit(SIGINT) | bit(SIGTERM) | bit(SIGCHLD);

/// # Safety
/// `stack` is what the kernel left: argc, then argc pointers to C strings.
unsafe extern "C" fn main(stack: *const usize) -> ! {
    // SAFETY: argc and argv as promised; all other pointers are to locals that live long enough.
    unsafe {
        // First of all, because a signal to process 1 of a namespace is lost unless it is blocked
        // or handled: a pod stopped in its first millisecond would wait for KILL.
        let set = WAITED_FOR;
        call(
            number::RT_SIGPROCMASK,
            SIG_BLOCK,
            (&raw const set) as usize,
            0,
            SIGNAL_SET_BYTES,
            0,
        );
        let has_argument = *stack > 1;
        if has_argument {
            check(
                call(number::UNSHARE, CLONE_NEWNET, 0, 0, 0, 0),
                101,
                b"pause: can't make a network namespace\n",
            );
            raise_loopback();
        }
        drop_rights();
        refuse_all_but_waiting();
        wait_for_ever()
    }
}

/// # Safety
/// None to keep: marked because it makes system calls.
unsafe fn raise_loopback() {
    let mut request = InterfaceFlags {
        name: [0; 16],
        flags: IFF_UP_RUNNING,
        rest: [0; 22],
    };
    request.name[0] = b'l';
    request.name[1] = b'o';
    // SAFETY: `request` is as large as the kernel's struct and outlives the calls. The socket is
    // left open: one descriptor, for the life of the program.
    unsafe {
        let socket = call(number::SOCKET, AF_INET, SOCK_DGRAM, 0, 0, 0);
        check(socket, 102, b"pause: can't open a socket\n");
        check(
            call(
                number::IOCTL,
                socket as usize,
                SIOCSIFFLAGS,
                (&raw const request) as usize,
                0,
                0,
            ),
            103,
            b"pause: can't bring lo up\n",
        );
    }
}

/// # Safety
/// None to keep: marked because it makes system calls.
unsafe fn drop_rights() {
    let header = CapabilityHeader {
        version: CAPABILITY_VERSION_3,
        pid: 0,
    };
    let none = [0u32; 6];
    // SAFETY: `header` and `none` have the kernel's layout and outlive the calls.
    unsafe {
        // The bounding set first: dropping from it needs CAP_SETPCAP.
        let mut capability = 0;
        while capability < CAPABILITIES_MAX {
            let answer = call(number::PRCTL, PR_CAPBSET_DROP, capability, 0, 0, 0);
            if answer == EINVAL {
                break;
            }
            check(answer, 104, b"pause: can't drop capabilities for good\n");
            capability += 1;
        }
        // Kernels before 4.3 know no ambient set; then there is nothing to clear.
        call(
            number::PRCTL,
            PR_CAP_AMBIENT,
            PR_CAP_AMBIENT_CLEAR_ALL,
            0,
            0,
            0,
        );
        check(
            call(
                number::CAPSET,
                (&raw const header) as usize,
                (&raw const none) as usize,
                0,
                0,
                0,
            ),
            105,
            b"pause: can't drop capabilities\n",
        );
        check(
            call(number::PRCTL, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
            106,
            b"pause: can't renounce new rights\n",
        );
    }
}

/// # Safety
/// None to keep: marked because it makes system calls.
unsafe fn refuse_all_but_waiting() {
    let filter = Filter {
        length: WAITING_ONLY.len() as u16,
        first: (&raw const WAITING_ONLY).cast(),
    };
    // SAFETY: the filter has the kernel's layout and outlives the call. A kernel without filters
    // refuses; there Docker would have had none either.
    unsafe {
        call(
            number::PRCTL,
            PR_SET_SECCOMP,
            SECCOMP_MODE_FILTER,
            (&raw const filter) as usize,
            0,
            0,
        );
    }
}

/// # Safety
/// None to keep: marked because it makes system calls.
unsafe fn wait_for_ever() -> ! {
    let set = WAITED_FOR;
    loop {
        // SAFETY: `set` outlives the call; no information and no time-out are asked for.
        let signal = unsafe {
            call(
                number::RT_SIGTIMEDWAIT,
                (&raw const set) as usize,
                0,
                0,
                SIGNAL_SET_BYTES,
                0,
            )
        };
        if signal == SIGTERM as isize || signal == SIGINT as isize {
            exit(0);
        }
        // Signals of one kind don't queue: after any wake-up, reap all there are.
        // SAFETY: no status is asked for.
        while unsafe { call(number::WAIT4, ANY_CHILD, 0, WNOHANG, 0, 0) } > 0 {}
    }
}

/// Ends the program with `code` and `complaint` if `answer` is an error.
fn check(answer: isize, code: usize, complaint: &'static [u8]) {
    if answer < 0 {
        // SAFETY: `complaint` is valid for its length.
        unsafe {
            call(
                number::WRITE,
                2,
                complaint.as_ptr() as usize,
                complaint.len(),
                0,
                0,
            );
        }
        exit(code);
    }
}

fn exit(code: usize) -> ! {
    loop {
        // SAFETY: takes no pointer and does not come back.
        unsafe { call(number::EXIT, code, 0, 0, 0, 0) };
    }
}

/// Nothing here can panic; without libc the language still wants to be told what would happen.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(107)
}
