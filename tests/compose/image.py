"""Our image: what is in it and what is not, and that the same input makes the same layers."""

import io
import json
import subprocess
import tarfile

from stack import HOME, REPOSITORY, run


def files(image):
    """Name to (mode, uid) of everything in it."""
    ident = run("docker", "create", image).stdout.strip()
    try:
        packed = subprocess.run(["docker", "export", ident], capture_output=True, check=True).stdout
    finally:
        run("docker", "rm", ident)
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        found = {entry.name: entry for entry in archive}
        sbom = json.load(archive.extractfile("usr/share/sbom/orrery.cdx.json"))
    return found, sbom


def case_build():
    """The image as the Dockerfile builds it from the repository: static, no shell, small. Takes a cold release build."""
    described, found, names = look("orrery:built")
    libraries = [name for name in found if ".so" in name]
    assert not libraries, f"the binary is not static: {libraries}"
    size = described["Size"] / 2**20
    assert size < 60, f"the image has {size:.0f} MiB, the aim is below 60"
    said = run("docker", "run", "--rm", "--read-only", "orrery:built", "--version").stdout.strip()
    print(f"      {len(found)} files, {size:.1f} MiB, {len(names)} crates in the SBOM; it says {said}")


def look(image):
    """What every image of ours has to be: how the engine describes it, its files, the crates of its SBOM."""
    described = json.loads(run("docker", "image", "inspect", image).stdout)[0]
    found, sbom = files(image)
    # What the engine puts in every container is not the image's.
    found = {name: entry for name, entry in found.items() if name.split("/")[0] not in (".dockerenv", "dev", "proc", "sys")
             and name not in ("etc/hostname", "etc/hosts", "etc/resolv.conf", "etc/mtab")}
    programs = sorted(name for name, entry in found.items() if entry.isfile() and entry.mode & 0o111 and "/lib" not in f"/{name}" and "lib64" not in name)
    assert programs == ["usr/bin/orrery"], f"programs in the image: {programs}"
    assert described["Config"]["User"] == "65532:65532"
    assert found["var/lib/orrery/mail"].uid == 65532 and found["usr/bin/orrery"].uid == 0
    setuid = [name for name, entry in found.items() if entry.isfile() and entry.mode & 0o6000]
    assert not setuid, setuid
    names = {component["name"] for component in sbom["components"]}
    assert {"actix-web", "lapin", "diesel", "rustls"} <= names and all(c["version"] for c in sbom["components"]), len(names)
    return described, found, names


def case_image():
    """The image: no shell, a user without rights, an SBOM, the same layers from the same input."""
    described, found, names = look("orrery:local")
    # Again, without the cache: the same input makes the same layers.
    context = HOME / "context"
    build = ["docker", "buildx", "build", "-q", "--no-cache", "-f", REPOSITORY / "docker/Dockerfile", "--target", "prebuilt", "-t", "orrery:again", context]
    run(*build, timeout=600)
    again = json.loads(run("docker", "image", "inspect", "orrery:again").stdout)[0]
    run("docker", "image", "rm", "orrery:again")
    assert described["RootFS"]["Layers"] == again["RootFS"]["Layers"], (described["RootFS"]["Layers"], again["RootFS"]["Layers"])
    binary = found["usr/bin/orrery"].size / 2**20
    print(f"      {len(found)} files, {described['Size'] / 2**20:.0f} MiB ({binary:.0f} MiB of it the binary), {len(names)} crates in the SBOM, layers reproduced")
