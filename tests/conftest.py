import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest

from vaebook import notebooks

ROOT = Path(__file__).parents[1]
SAMPLE = """\
---
quick: {size: 16}
key_figure: fig-square
---

# A sample chapter

It promises little: a bound of {glue:text}`test_bound:.1f` nats, and of it

```{math}
:label: sample-half
h = b / 2 .
```

```{code-cell} python
:tags: [parameters]
size: int = 32  # edge of the figures in pixels, in [8, 256]
bound: float = 108.4  # what is reported, in (0, 1000]
```

```{code-cell} python
import io, time
from IPython.display import HTML, Image, display
from PIL import Image as Picture
from tqdm import tqdm
from vaebook.parameters import validate
validate(In, globals())
```

```{code-cell} python
print(f"the bound is {bound:.2f} nats after 5 epochs")
for step in tqdm(range(2)):
    pass
```

```{code-cell} python
HTML('<table id="T_a1b2c"><tr><th>model</th><th>bound</th></tr><tr><td>vae</td><td>97.31</td></tr></table>')
```

```{code-cell} python
---
mystnb:
  figure:
    name: fig-square
    caption: A square.
---
def figure(colour, mode="RGBA", format="PNG"):
    file = io.BytesIO()
    picture = Picture.new(mode, (2 * size, 2 * size))
    picture.paste(colour, (4, 4, size, size))
    picture.save(file, format=format)
    return Image(file.getvalue())

figure("navy")
```

```{code-cell} python
display(figure("orange"))
figure("orange", "RGB", "JPEG")
```

```{code-cell} python
glue = "application/papermill.record/text/plain"
label = {"scrapbook": {"name": "test_bound", "mime_prefix": "application/papermill.record/"}}
display({glue: repr(bound)}, metadata=label, raw=True)
```

```{code-cell} python
:tags: [trained]
print(f"accuracy 0.912 after a training run, {bound / 2:.1f} nats a pixel")
```

```{code-cell} python
---
compare:
  rtol: 0.05
---
print("about 40.0 seconds")
```

```{code-cell} python
from vaebook.checks import check
check("half of the bound", bound / 2, equals=0.5 * bound, equation="sample-half")
```

```{code-cell} python
:tags: [provenance]
print("finished at", time.time())
```
"""


@dataclass(frozen=True)
class Book:
    """A book in a folder of its own."""

    root: Path

    @property
    def folder(self) -> Path:
        return self.root / "book"

    def write(self, name: str, text: str) -> None:
        (self.folder / "text" / f"{name}.md").write_text(text, encoding="utf-8")

    def read(self, name: str) -> nbformat.NotebookNode:
        return nbformat.read(self.folder / f"{name}.ipynb", as_version=4)

    def store(self, name: str, notebook: nbformat.NotebookNode) -> None:
        nbformat.write(notebook, self.folder / f"{name}.ipynb")

    def record(self, name: str) -> Path:
        return notebooks.record(self.folder, name)


def new_book(root: Path) -> Book:
    (root / "book" / "text").mkdir(parents=True)
    shutil.copy(ROOT / "book" / "conftest.py", root / "book")
    (root / "_toc.yml").write_text(
        "format: jb-book\nroot: book/sample\nchapters:\n- file: book/second\n", "utf-8"
    )
    return Book(root)


@pytest.fixture(scope="session")
def make_book():
    """Makes a book without chapters in a folder."""
    return new_book


@pytest.fixture
def empty_book(tmp_path):
    return new_book(tmp_path)


@pytest.fixture(scope="session")
def sample_text():
    return SAMPLE


@pytest.fixture(scope="session")
def sample_record(tmp_path_factory):
    """The record of the sample chapter, made once."""
    book = new_book(tmp_path_factory.mktemp("sample"))
    book.write("sample", SAMPLE)
    return book.record("sample").read_text("utf-8")


@pytest.fixture
def book(empty_book, sample_record):
    """A book whose only chapter, ``sample``, is recorded."""
    empty_book.write("sample", SAMPLE)
    (empty_book.folder / "sample.ipynb").write_text(sample_record, "utf-8")
    return empty_book


STILLBORN = """\
import sys
from pathlib import Path

starts = Path(__file__).with_name("starts")
starts.write_text(starts.read_text() + "I" if starts.exists() else "I")
if len(starts.read_text()) <= {count}:
    sys.exit(1)

from ipykernel import kernelapp

kernelapp.launch_new_instance()
"""


@pytest.fixture
def stillborn_kernels(tmp_path, monkeypatch):
    """Makes the next kernels end before they answer; returns the file with a letter for each start."""

    def make(count: int) -> Path:
        folder = tmp_path / "launcher"
        folder.mkdir()
        (folder / "ipykernel_launcher.py").write_text(STILLBORN.format(count=count), "utf-8")
        monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        return folder / "starts"

    return make


@pytest.fixture
def data_root(tmp_path, monkeypatch) -> Path:
    """An empty data folder."""
    monkeypatch.setenv("VAEBOOK_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def tiny(data_root, monkeypatch):
    """A data set 'tiny' in the format of MNIST: call it with the ways there are; returns its folder."""

    from tiny_data import tiny_source  # here: it loads PyTorch, which few tests need

    from vaebook import catalogue

    def make(**ways) -> Path:
        monkeypatch.setitem(catalogue.SOURCES, "tiny", tiny_source(**ways))
        return data_root / "Tiny" / "raw"

    return make
