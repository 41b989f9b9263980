/** The top line: what is looked at, under which arm, and the switches of the page. */
import type { App } from "../app";
import type { Arm } from "../source/model";
import { choice, h } from "./dom";
import { significant } from "./format";

export class Header {
  readonly element = h("header", { class: "top" });
  private arms = h("span", { class: "group" });
  private about = h("dialog", { class: "help about", "aria-labelledby": "about-title" });

  constructor(
    private app: App,
    theme: HTMLElement,
  ) {
    const { name, question } = app.overview;
    this.element.append(
      h("h1", {}, name),
      question ? h("span", { class: "question cut", title: question }, question) : h("span", { class: "question" }),
      this.arms,
      h("button", { type: "button", id: "about", onclick: () => this.show() }, "About"),
      theme,
      h("button", { type: "button", id: "keys", title: "Keys (?)", onclick: () => app.keys.help() }, "Keys"),
      this.about,
    );
    app.store.on(["task", "arm"], () => this.fill());
    this.fill();
  }

  private fill(): void {
    const { tasks } = this.app.overview;
    const { task, app } = { task: this.app.task, app: this.app };
    const taskChoice = choice(
      "Task",
      tasks.map(({ name }) => [name, name]),
      app.state.task,
      (name) => {
        const chosen = tasks.find((found) => found.name === name);
        app.store.set({
          task: name,
          arm: chosen?.default_arm ?? chosen?.arms[0]?.id ?? "",
          other: "",
          compare: "one",
          label: "",
          predicted: "",
          sort: "",
        });
      },
    );
    const armChoice = choice(
      "Arm",
      (task?.arms ?? []).map((arm) => [arm.id, armText(arm)]),
      app.state.arm,
      (arm) => app.store.set({ arm, ...(arm === app.state.other ? { compare: "one", other: "" } : {}) }),
    );
    this.arms.replaceChildren(...(tasks.length > 1 ? [taskChoice] : []), ...(task?.arms.length ? [armChoice] : []));
  }

  private show(): void {
    const { name, question, notes, tasks } = this.app.overview;
    const close = h("button", { type: "button", onclick: () => this.about.close() }, "Close");
    this.about.replaceChildren(
      h("header", {}, h("h2", { id: "about-title" }, name), close),
      h(
        "div",
        { class: "text" },
        question ? h("p", {}, question) : null,
        ...notes.map((note) => h("p", {}, note)),
        ...tasks.map((task) =>
          h("p", {}, `Task ${task.name}: ${task.classes.join(", ")}. Arms: ${task.arms.map(armText).join("; ")}.`),
        ),
        h(
          "p",
          { class: "muted" },
          "Nothing leaves this machine: the page asks only the server that it came from. Research use; not a medical device.",
        ),
      ),
    );
    this.about.showModal();
  }
}

function armText({ title, summary }: Arm): string {
  const f1 = summary?.macro_f1;
  return f1 === undefined ? title : `${title} (macro-F1 ${significant(f1, 2)})`;
}
