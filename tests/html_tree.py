"""A page as a tree, for tests that compare what it shows with numbers; it also sees whether every tag is closed."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = frozenset({"meta", "br", "link", "input", "hr", "img"})


@dataclass
class Node:
    tag: str
    attributes: dict
    children: list = field(default_factory=list)

    def walk(self):
        yield self
        for child in self.children:
            if isinstance(child, Node):
                yield from child.walk()

    def all(self, tag=None, css=None, **attributes):
        """Nodes below with this tag, this class, and these attributes."""
        return [
            node
            for node in self.walk()
            if node is not self
            and (tag is None or node.tag == tag)
            and (css is None or css in node.css)
            and all(node.attributes.get(name) == value for name, value in attributes.items())
        ]

    def one(self, tag=None, css=None, **attributes):
        (found,) = self.all(tag, css, **attributes)
        return found

    @property
    def css(self):
        return (self.attributes.get("class") or "").split()

    @property
    def text(self):
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    def words(self):
        """Its text with single spaces; styles are no text."""
        parts = [c if isinstance(c, str) else c.words() if c.tag != "style" else "" for c in self.children]
        return " ".join(" ".join(parts).split())


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.root = Node("", {})
        self.open = [self.root]

    def handle_starttag(self, tag, attributes):
        node = Node(tag, dict(attributes))
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_startendtag(self, tag, attributes):
        self.open[-1].children.append(Node(tag, dict(attributes)))

    def handle_endtag(self, tag):
        node = self.open.pop()
        assert node.tag == tag, f"</{tag}> closes <{node.tag}>"

    def handle_data(self, data):
        self.open[-1].children.append(data)


def read_html(text):
    """Read a page; a tag that is not closed, or closed in the wrong place, is an error."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    assert len(reader.open) == 1, f"<{reader.open[-1].tag}> is not closed"
    return reader.root
