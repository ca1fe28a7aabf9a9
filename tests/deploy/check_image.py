"""Every file that the compiler read for the release build is in the image's build context.

check_image.py DEPINFO    target/release/engine.d, as cargo leaves it
"""

import fnmatch
import pathlib
import re
import sys

root = pathlib.Path.cwd()
kept = []
for line in (root / ".dockerignore").read_text().splitlines():
    line = line.strip()
    if line and not line.startswith("#") and line != "*":
        assert line.startswith("!"), f".dockerignore: this check knows only `*` and lines with !, not {line}"
        kept.append(line[1:])


def in_context(path):
    parts = pathlib.PurePath(path).parts
    prefixes = ("/".join(parts[: end + 1]) for end in range(len(parts)))
    return any(fnmatch.fnmatch(prefix, pattern) for prefix in prefixes for pattern in kept)


if not pathlib.Path(sys.argv[1]).exists():
    sys.exit(f"{sys.argv[1]} is missing; build first: scripts/build.sh")

text = pathlib.Path(sys.argv[1]).read_text()
_, _, listed = text.splitlines()[0].partition(": ")
files = [pathlib.Path(name.replace("\\ ", " ")) for name in re.split(r"(?<!\\) ", listed)]
names = [name.relative_to(root).as_posix() if name.is_absolute() else name.as_posix() for name in files]
assert len(names) > 50, f"{sys.argv[1]} names only {len(names)} files"
copied = re.findall(r"^COPY (?!--from)(?:--\S+ )*(\S+) ", (root / "Dockerfile").read_text(), re.MULTILINE)
names += ["Cargo.toml", "Cargo.lock"] + [name for name in copied if name != "."]
missing = [name for name in names if not in_context(name) or not (root / name).exists()]
if missing:
    sys.exit(f".dockerignore keeps out what the build needs: {', '.join(missing)}")
