from __future__ import annotations

import pytest

from netdump.client.words import split_words
from netdump.errors import ArmError
from netdump.image.commandline import COMMAND_LINE_MAX, EVERYWHERE, NEUTRALISING, X86, command_line


def test_what_the_capture_kernel_inherits() -> None:
    line = command_line(
        'BOOT_IMAGE=/boot/vmlinuz root=UUID=1 ro quiet console=ttyS0,115200 crashkernel=128M hugepages=9 "dyndbg=a b" '
        "systemd.unit=x intel_iommu=on netdump.deadline=9 cma=64M rd.lvm=0 panic_on_warn=1 hung_task_panic=1 "
        "loglevel=4 printk.devkmsg=off",
        ["earlyprintk=ttyS0"],
        "x86_64",
    )
    words = list(split_words(line))
    assert words[:3] == ["console=ttyS0,115200", '"dyndbg=a b"', "intel_iommu=on"]
    said = [word for word in words if word.startswith(("loglevel", "printk"))]
    assert said == ["loglevel=7"], "what we say is to be seen, however the kernel is built"
    assert words[-1] == "earlyprintk=ttyS0"
    assert {*X86, *EVERYWHERE, *NEUTRALISING} <= set(words)
    assert not [word for word in words if word.startswith(("root", "ro", "crashkernel", "systemd", "netdump", "rd."))]
    assert [word for word in words if word.startswith("cma")] == ["cma=0"]
    assert len(words) == len(set(words))


def test_nothing_that_makes_a_slow_device_fatal_is_inherited() -> None:
    """Nor an NMI that nobody knows, as of who presses the button once more because the machine does not react."""
    fatal = "softlockup_panic=1 panic_on_warn unknown_nmi_panic workqueue.panic_on_stall=1 oops=panic panic=-1"
    words = list(split_words(command_line(f"{fatal} workqueue.panic_on_stall_time=45 console=hvc0", (), "x86_64")))
    assert [word for word in words if "panic" in word] == ["panic=10"]
    assert words[0] == "console=hvc0"


def test_words_for_the_init_of_the_running_system() -> None:
    """The kernel would take no word behind them for itself, and kexec adds the place of the core at the end."""
    line = command_line('console=ttyS0 "a=b -- c" "--" single nr_cpus=9', ["netdump.level=0"], "x86_64")
    words = list(split_words(line))
    assert words[:3] == ["console=ttyS0", '"a=b -- c"', X86[0]]
    assert words[-1] == "netdump.level=0"
    assert not {"--", "single"} & set(words)


@pytest.mark.parametrize(
    ("architecture", "present", "absent"),
    [
        ("i686", "irqpoll nr_cpus=1 nokaslr", "maxcpus=1"),
        ("aarch64", "irqpoll nr_cpus=1 reset_devices swiotlb=noforce panic=10", "mce=off nokaslr"),
        ("ppc64le", "noirqdistrib panic=10", "mce=off"),
        ("s390x", "nr_cpus=1 vmcp_cma=0", "irqpoll reset_devices mce=off"),
        ("riscv64", "maxcpus=1 reset_devices novmcoredd", "nr_cpus=1 mce=off"),
    ],
)
def test_every_architecture_has_its_words(architecture: str, present: str, absent: str) -> None:
    words = list(split_words(command_line("console=hvc0", (), architecture)))
    assert words[0] == "console=hvc0"
    assert set(present.split()) <= set(words)
    assert not set(absent.split()) & set(words)


def test_a_line_that_is_too_long() -> None:
    with pytest.raises(ArmError, match=f"at most {COMMAND_LINE_MAX} are possible"):
        command_line("x=" + "y" * 2000)
