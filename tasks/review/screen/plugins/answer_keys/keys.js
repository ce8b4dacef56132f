// FiftyOne binds no key to an operator of Python, so this does: a key runs the operator of the same name in __init__.py.
(() => {
  const OPERATORS = { p: "present", a: "absent", u: "unsure", d: "not_a_duplicate", s: "skip", z: "take_back" };
  const ONLY_ON_AN_OPEN_CARD = ["skip"]; // on the grid, FiftyOne's own `s` folds the sidebar away
  let answering = false;
  addEventListener("keydown", async (event) => {
    const operator = OPERATORS[event.key.toLowerCase()];
    if (!operator || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (event.target.closest?.("input, textarea, [contenteditable=true]")) return;
    if (ONLY_ON_AN_OPEN_CARD.includes(operator) && !document.querySelector('[data-cy="modal"]')) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    if (answering) return; // two quick presses are not two answers: the second was not about the next card
    answering = true;
    try {
      await window.__foo__.executeOperator(`@tagwright/answers/${operator}`, {});
    } finally {
      answering = false;
    }
  }, true);
})();
