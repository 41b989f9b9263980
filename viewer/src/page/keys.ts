/** Keys, and the dialog that lists them. */
import { h, kept } from "./dom";

interface Binding {
  keys: string[];
  group: string;
  does: string;
  run: () => void;
}

const NAMES: Record<string, string> = { ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓" };

export class Keys {
  private bindings: Binding[] = [];
  private dialog = h("dialog", { class: "help", "aria-labelledby": "help-title" });

  constructor() {
    addEventListener("keydown", (event) => this.press(event));
    document.body.append(this.dialog);
  }

  bind(group: string, keys: string[], does: string, run: () => void): void {
    this.bindings.push({ group, keys, does, run });
  }

  /** People who speak to their computer can switch single keys off. */
  private get on(): boolean {
    return kept.get("keys") !== "off";
  }

  private press(event: KeyboardEvent): void {
    if (event.ctrlKey || event.altKey || event.metaKey || document.querySelector("dialog[open]")) return;
    const target = event.target as HTMLElement;
    const typing = target.matches("input:not([type=checkbox]):not([type=range]), textarea, select");
    const moving = event.key.startsWith("Arrow") && target.matches("input, select, [role=separator], [role=grid]");
    const pressing =
      (event.key === "Enter" || event.key === " ") && target.matches("button, a, summary, input, [role=grid]");
    if (event.key !== "Escape" && (typing || moving || pressing || !this.on)) return;
    const binding = this.bindings.find(({ keys }) => keys.includes(event.key));
    if (!binding) return;
    event.preventDefault();
    binding.run();
  }

  help(): void {
    const groups = [...new Set(this.bindings.map(({ group }) => group))];
    const close = h("button", { type: "button", onclick: () => this.dialog.close() }, "Close");
    this.dialog.replaceChildren(
      h("header", {}, h("h2", { id: "help-title" }, "Keys"), this.switch(), close),
      h("div", { class: "groups" }, ...groups.map((group) => this.group(group))),
    );
    this.dialog.showModal();
  }

  private group(group: string): HTMLElement {
    const items = this.bindings
      .filter((binding) => binding.group === group)
      .flatMap(({ keys, does }) => [
        h("dt", {}, ...keys.map((key) => h("kbd", {}, NAMES[key] ?? key))),
        h("dd", {}, does),
      ]);
    return h("section", {}, h("h3", {}, group), h("dl", {}, ...items));
  }

  private switch(): HTMLElement {
    const box = h("input", { type: "checkbox", onchange: () => kept.set("keys", box.checked ? "on" : "off") });
    box.checked = this.on;
    return h("label", {}, box, "single keys work");
  }
}
