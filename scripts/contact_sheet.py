"""Write figures/portraits_40.png: forty portraits of held-out seeds, 10 × 4 at 192 px.

python scripts/contact_sheet.py
"""

from pathlib import Path

import numpy as np
from PIL import Image

from nfs_lib.portraits import portrait
from nfs_lib.writing import replacing

OUT = Path(__file__).parents[1] / "figures" / "portraits_40.png"
FIRST, COLUMNS, ROWS, SIZE = 9_000_000, 10, 4, 192


def main():
    """Draw and save the sheet."""
    tiles = np.stack([portrait(FIRST + i, SIZE).image for i in range(COLUMNS * ROWS)])
    sheet = (
        tiles.reshape(ROWS, COLUMNS, SIZE, SIZE, 3)
        .transpose(0, 2, 1, 3, 4)
        .reshape(ROWS * SIZE, COLUMNS * SIZE, 3)
    )
    OUT.parent.mkdir(exist_ok=True)
    with replacing(OUT) as path:
        Image.fromarray(sheet).save(path, optimize=True)
    print(f"{OUT.name}: {OUT.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
