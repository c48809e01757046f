#!/usr/bin/env bash
# Pillow shows a TIFF's own first bytes where GDAL left a tile out.
#
# Pillow 13.0.0, with a file that rasterio 1.4.4 (GDAL) wrote with SPARSE_OK: tiles that were never written have the
# offset 0 and the length 0, and are nodata, or 0 where there is none. GDAL and tifffile 2026.3.3 read them so. Of an
# uncompressed file, Pillow reads each such tile from the beginning of the file, header and neighbours, without an
# error: where one tile of four was written, nearly all pixels have its value. Of a compressed one, it raises OSError.
#
# Output seen:
#   offsets (190, 0, 0, 0), lengths (65536, 0, 0, 0)
#   GDAL: 65536 pixels of 200, 196608 of 0
#   tifffile: 65536 pixels of 200, 196608 of 0
#   Pillow: 261574 pixels of 200, 372 of 0; a tile that was left out begins with b'II*\x00'
#   Pillow, deflate: OSError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pillow==13.0.0 rasterio==1.4.4 tifffile==2026.3.3 numpy==2.4.6
cat >"$folder/look.py" <<'END'
import sys
import warnings

import numpy as np
import rasterio
import tifffile
from PIL import Image
from rasterio.windows import Window

warnings.simplefilter("ignore")
plain, deflated = f"{sys.argv[1]}/plain.tif", f"{sys.argv[1]}/deflated.tif"
size = {"width": 512, "height": 512, "count": 1, "dtype": "uint8"}
tiles = {"tiled": True, "blockxsize": 256, "blockysize": 256, "SPARSE_OK": True}
for name, more in ((plain, {}), (deflated, {"compress": "deflate"})):
    with rasterio.open(name, "w", driver="GTiff", **size, **tiles, **more) as written:
        written.write(np.full((1, 256, 256), 200, np.uint8), window=Window(0, 0, 256, 256))


def shown(pixels):
    return f"{(pixels == 200).sum()} pixels of 200, {(pixels == 0).sum()} of 0"


with tifffile.TiffFile(plain) as file:
    print(f"offsets {file.pages[0].dataoffsets}, lengths {file.pages[0].databytecounts}")
with rasterio.open(plain) as file:
    print(f"GDAL: {shown(file.read(1))}")
print(f"tifffile: {shown(tifffile.imread(plain))}")
seen = np.asarray(Image.open(plain))
begin = seen[0, 256:260].tobytes()
print(f"Pillow: {shown(seen)}; a tile that was left out begins with {begin}")
try:
    Image.open(deflated).load()
    print("Pillow, deflate: no error")
except OSError as error:
    print(f"Pillow, deflate: {type(error).__name__}")
END
"$folder/venv/bin/python" "$folder/look.py" "$folder" 2>/dev/null | tee "$folder/seen"
diff "$folder/seen" - <<'END'
offsets (190, 0, 0, 0), lengths (65536, 0, 0, 0)
GDAL: 65536 pixels of 200, 196608 of 0
tifffile: 65536 pixels of 200, 196608 of 0
Pillow: 261574 pixels of 200, 372 of 0; a tile that was left out begins with b'II*\x00'
Pillow, deflate: OSError
END
