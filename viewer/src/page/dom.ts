/** Elements in one expression. */

type Value = string | number | boolean | null | undefined | ((event: never) => void);
type Child = Node | string | null | undefined | false;

/** `h("button", {class: "x", onclick: f}, "text")`; false, null and undefined leave a property out. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  properties: Record<string, Value> = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) set(element, name, value);
  element.append(...children.filter((child): child is Node | string => !!child || child === ""));
  return element;
}

export function set(element: Element, name: string, value: Value): void {
  if (typeof value === "function") element.addEventListener(name.slice(2), value as EventListener);
  else if (value === false || value === null || value === undefined) element.removeAttribute(name);
  else element.setAttribute(name, value === true ? "" : String(value));
}

const SVG = "http://www.w3.org/2000/svg";

/** An icon of 16 × 16 units, drawn with lines. */
export function icon(path: string): SVGSVGElement {
  const svg = document.createElementNS(SVG, "svg");
  for (const [name, value] of Object.entries({ viewBox: "0 0 16 16", class: "icon", "aria-hidden": "true" }))
    svg.setAttribute(name, value);
  const line = document.createElementNS(SVG, "path");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}

export function options(values: [value: string, text: string][], chosen: string | null): HTMLOptionElement[] {
  return values.map(([value, text]) => h("option", { value, selected: value === chosen }, text));
}

/** A select with a visible or spoken name. */
export function choice(
  name: string,
  values: [string, string][],
  chosen: string | null,
  change: (value: string) => void,
  hidden = false,
): HTMLLabelElement {
  const select = h("select", { "aria-label": name, onchange: () => change(select.value) }, ...options(values, chosen));
  return h("label", { class: "choice" }, h("span", { class: hidden ? "spoken" : "caption" }, name), select);
}

export const onFrame = (work: () => void): (() => void) => {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      work();
    });
  };
};

/** Settings of this browser; where it keeps none (some pages from files), they last as long as the page. */
export const kept = {
  memory: new Map<string, string>(),
  get(name: string): string | null {
    try {
      return this.memory.get(name) ?? localStorage.getItem(`wsi-ncmi.${name}`);
    } catch {
      return null;
    }
  },
  set(name: string, value: string): void {
    this.memory.set(name, value);
    try {
      localStorage.setItem(`wsi-ncmi.${name}`, value);
    } catch {
      // memory has it
    }
  },
};
