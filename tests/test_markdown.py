import pytest

from vaebook.markdown import comment, directive, tokens

TEXT = """\
:::{div} promise
A paragraph inside.
:::

::::{solution} ex
:class: dropdown
```{math}
:label: deep
x
```
Another one.
::::

```{code-block} python
# no paragraph
```

The last. <!-- a comment -->

<!-- a comment
of its own -->
"""


def test_what_stands_inside_directives_is_read_in_order():
    paragraphs = [token.content for token in tokens(TEXT) if token.type == "inline"]
    assert paragraphs == ["A paragraph inside.", "Another one.", "The last. <!-- a comment -->"]


def test_directives_have_their_name():
    names = [name for token in tokens(TEXT) if (name := directive(token))]
    assert names == ["div", "solution", "math", "code-block"]


def test_options_of_a_directive_are_not_its_text():
    source = "```{figure} a.png\n---\nname: fig\nalt: 1.5\n---\nThe caption.\n```"
    assert [token.content for token in tokens(source) if token.type == "inline"] == ["The caption."]


@pytest.mark.parametrize("source", ["```\nplain = 1\n```", "    indented = 1", "`code`"])
def test_code_is_no_comment_and_no_directive(source):
    assert not any(directive(token) or comment(token) for token in tokens(source))


def test_comments_are_read_inside_a_line_and_on_lines_of_their_own():
    parts = [part for token in tokens(TEXT) for part in (token, *(token.children or []))]
    assert [words for part in parts if (words := comment(part))] == ["a comment", "a comment of its own"]
