/** What went wrong with the page as a whole, above everything, until it is right again or sent away. */
import { h } from "./dom";

export class Notices {
  readonly element = h("div", { class: "notices", role: "alert" });

  /** One notice per text; `retry` is offered as a button. */
  show(text: string, retry?: () => void): void {
    if ([...this.element.children].some((child) => (child as HTMLElement).dataset.text === text)) return;
    const notice = h("div", { class: "notice", "data-text": text }, h("span", {}, text));
    const again = () => {
      notice.remove();
      retry?.();
    };
    if (retry) notice.append(h("button", { type: "button", onclick: again }, "Try again"));
    notice.append(h("button", { type: "button", "aria-label": "Dismiss", onclick: () => notice.remove() }, "×"));
    this.element.append(notice);
  }
}
