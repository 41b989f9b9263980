/** The line between table and slide: dragged, or moved by arrow keys. */
import { h, kept, set } from "./dom";

const [LEAST, STEP] = [220, 24];

export function splitter(container: HTMLElement): HTMLElement {
  const line = h("div", {
    class: "splitter",
    role: "separator",
    "aria-orientation": "vertical",
    tabindex: 0,
    "aria-label": "Width of the table",
    "aria-valuemin": LEAST,
  });
  const most = () => Math.max(LEAST, container.clientWidth - 420);
  const width = () => Math.round(line.getBoundingClientRect().left - container.getBoundingClientRect().left);
  const apply = (wanted: number) => {
    const px = Math.round(Math.min(most(), Math.max(LEAST, wanted)));
    container.style.setProperty("--table", `${px}px`);
    set(line, "aria-valuenow", px);
    set(line, "aria-valuemax", most());
    kept.set("table", String(px));
  };
  line.addEventListener("pointerdown", (event) => {
    line.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  line.addEventListener("pointermove", (event) => {
    if (line.hasPointerCapture(event.pointerId)) apply(event.clientX - container.getBoundingClientRect().left);
  });
  line.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -STEP, ArrowRight: STEP }[event.key];
    if (step === undefined) return;
    apply(width() + step);
    event.preventDefault();
    event.stopPropagation();
  });
  const before = Number(kept.get("table"));
  if (before) container.style.setProperty("--table", `${before}px`);
  new ResizeObserver(() => set(line, "aria-valuenow", width())).observe(container);
  return line;
}
