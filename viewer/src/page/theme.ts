/** Light and dark: as the system has it, or as the switch says. */
import { h, kept } from "./dom";

const THEMES = ["system", "light", "dark"] as const;
type Theme = (typeof THEMES)[number];

export class ThemeSwitch {
  readonly button = h("button", { type: "button", id: "theme", onclick: () => this.next() });
  private current: Theme = THEMES.find((theme) => theme === kept.get("theme")) ?? "system";

  constructor() {
    this.apply();
  }

  next(): void {
    this.current = THEMES[(THEMES.indexOf(this.current) + 1) % THEMES.length] as Theme;
    kept.set("theme", this.current);
    this.apply();
  }

  private apply(): void {
    document.documentElement.dataset.theme = this.current;
    this.button.textContent = { system: "◐ Auto", light: "☀ Light", dark: "☾ Dark" }[this.current];
    this.button.title = `Colours: ${this.current} (press to change, key d)`;
  }
}
