"""The Debian package: it installs on a bare Debian, makes its user, keeps its configuration to itself; its units are valid and hardened."""

import os
import re
import shutil

from stack import HOME, REPOSITORY, run

# systemd-analyze's figure, 0 (nothing may be done) to 10; above it a hardening was lost.
MOST_EXPOSED = 1.2


def case_package():
    """systemd/deb: the package installs on a bare Debian 13, its user has no rights, its units are as hardened as they were."""
    folder = HOME / "package"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    run(REPOSITORY / "systemd/deb", os.environ["ORRERY_BIN"], folder)
    (package,) = folder.glob("*.deb")
    script = (
        "dpkg -i /package/*.deb >/dev/null && orrery --version && stat -c '%n %U:%G %a' /etc/orrery /etc/orrery/orrery.toml && getent passwd orrery && "
        "zcat /usr/share/man/man1/orrery-serve.1.gz | grep -q '^\\.TH orrery-serve 1' && bash -n /usr/share/bash-completion/completions/orrery && "
        "grep -q backup /usr/share/zsh/vendor-completions/_orrery && test -f /usr/lib/systemd/system/orrery-backup.timer && "
        "dpkg -r orrery >/dev/null && test -f /etc/orrery/orrery.toml && dpkg -P orrery >/dev/null && test ! -e /usr/bin/orrery && test ! -e /etc/orrery/orrery.toml"
    )
    said = run("docker", "run", "--rm", "--network", "none", "-v", f"{folder}:/package:ro", "debian:trixie-slim", "sh", "-ec", script).stdout
    assert "/etc/orrery root:orrery 750" in said and "/etc/orrery/orrery.toml root:orrery 640" in said, said
    assert re.search(r"orrery:x:\d+:\d+:.*:/usr/sbin/nologin", said), said
    figures = {}
    if shutil.which("systemd-analyze"):
        for unit in sorted((REPOSITORY / "systemd").glob("*.service")):
            told = run("systemd-analyze", "security", "--offline=true", "--no-pager", unit, check=False).stdout
            figures[unit.name] = float(re.search(r"Overall exposure level for \S+: ([\d.]+)", told).group(1))
        assert max(figures.values()) <= MOST_EXPOSED, figures
    print(f"      {package.name} {package.stat().st_size / 2**20:.0f} MiB: {said.splitlines()[0]}; exposure {figures or 'not asked: no systemd-analyze'}")
