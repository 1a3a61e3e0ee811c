// Turns one element into another with the fewest changes, so that rows do not jump, focus stays where it is
// and open menus stay open. Children are matched by data-id or id, otherwise by their place.
"use strict";

const Morph = (() => {
  const keyOf = (node) =>
    node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-id") || node.id || "" : "";

  // What the reader has set by hand is theirs: typed text, opened details, the row they stand on.
  const kept = (element, name) =>
    (name === "open" && element.tagName === "DETAILS") || (name === "value" && element === document.activeElement);

  function attributes(from, to) {
    for (const { name, value } of [...to.attributes]) {
      if (!kept(from, name) && from.getAttribute(name) !== value) from.setAttribute(name, value);
    }
    for (const { name } of [...from.attributes]) {
      if (!kept(from, name) && !to.hasAttribute(name)) from.removeAttribute(name);
    }
  }

  function same(a, b) {
    return a.nodeType === b.nodeType && a.nodeName === b.nodeName && keyOf(a) === keyOf(b);
  }

  function children(from, to) {
    const known = new Map();
    for (const child of from.childNodes) if (keyOf(child)) known.set(keyOf(child), child);
    let here = from.firstChild;
    for (const wanted of [...to.childNodes]) {
      const found = known.get(keyOf(wanted));
      if (found && found !== here && found.nodeName === wanted.nodeName) {
        from.insertBefore(found, here);
        node(found, wanted);
      } else if (here && same(here, wanted)) {
        const next = here.nextSibling;
        node(here, wanted);
        here = next;
      } else {
        from.insertBefore(document.importNode(wanted, true), here);
      }
    }
    while (here) {
      const next = here.nextSibling;
      here.remove();
      here = next;
    }
  }

  function node(from, to) {
    if (from.isEqualNode(to)) return;
    if (from.nodeType !== Node.ELEMENT_NODE) {
      if (from.nodeValue !== to.nodeValue) from.nodeValue = to.nodeValue;
      return;
    }
    attributes(from, to);
    children(from, to);
  }

  return { node };
})();
