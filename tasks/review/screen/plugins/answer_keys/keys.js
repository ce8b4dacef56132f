// FiftyOne binds no key to an operator of Python, so this does: a key runs the operator of the same name in __init__.py.
(() => {
  const PLUGIN = "@tagwright/answers";
  const OPERATORS = { p: "present", a: "absent", u: "unsure", d: "not_a_duplicate", s: "skip", z: "take_back" };
  const ONLY_ON_AN_OPEN_CARD = ["skip"]; // on the grid, FiftyOne's own `s` folds the sidebar away
  const { Operator, OperatorConfig, executeOperator, registerOperator } = window.__foo__;
  const isCardOpen = () => document.querySelector('[data-cy="modal"]') !== null;

  let answering = false;
  addEventListener("keydown", async (event) => {
    const operator = OPERATORS[event.key.toLowerCase()];
    if (!operator || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (event.target.closest?.("input, textarea, [contenteditable=true]")) return;
    if (ONLY_ON_AN_OPEN_CARD.includes(operator) && !isCardOpen()) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    if (answering) return; // two quick presses are not two answers: the second was not about the next card
    answering = true;
    try {
      await executeOperator(`${PLUGIN}/${operator}`, {});
    } finally {
      answering = false;
    }
  }, true);

  // The grid without what was answered, at once or as soon as the open card is closed. FiftyOne's own reload_samples
  // shows again the pages that the browser has kept, so they are thrown away first.
  let isGridOld = false;
  const drawGrid = () => {
    isGridOld = isCardOpen();
    if (isGridOld) return;
    window.__fos__.getCurrentEnvironment().commitUpdate((store) => store.invalidateStore());
    executeOperator("reload_samples", {});
  };
  new MutationObserver(() => isGridOld && drawGrid()).observe(document.body, { childList: true, subtree: true });
  registerOperator(class extends Operator {
    get config() {
      return new OperatorConfig({ name: "draw_grid", label: "Draw the grid anew", unlisted: true });
    }
    async execute() {
      drawGrid();
    }
  }, PLUGIN);
})();
