"""An environment for a library that cannot be installed beside Plait: what differs, over what Plait's has."""

import subprocess
import sysconfig
import venv
from pathlib import Path


def python_with(folder: Path, requirements: list[str]) -> str:
    """The interpreter of an environment that has the requirements, and all else from the one that runs this.

    So torch and the other large libraries are the very same. Made if the folder is missing, which asks pip's registry.
    """
    python = folder / "bin" / "python"
    done = folder / "requirements.txt"
    wanted = "\n".join(requirements)
    if done.exists() and done.read_text() == wanted:
        return str(python)
    venv.create(folder, with_pip=True, clear=True)
    own = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    )
    Path(own.stdout.strip(), "beside.pth").write_text(sysconfig.get_path("purelib") + "\n")
    # pip complains that the rest would want other versions, which they have in their own environment.
    subprocess.run([python, "-m", "pip", "install", *requirements], check=True, capture_output=True)
    done.write_text(wanted)
    return str(python)
