/** The page of `wsi-ncmi view`: reads what there is to see, then puts its parts together. */
import { App } from "./app";
import { h, kept } from "./page/dom";
import { Header } from "./page/header";
import { Keys } from "./page/keys";
import { bindKeys } from "./page/bindings";
import { Notices } from "./page/notices";
import { splitter } from "./page/splitter";
import { ThemeSwitch } from "./page/theme";
import { Actions } from "./slide/actions";
import { SlidePane } from "./slide/pane";
import { Toolbar } from "./slide/toolbar";
import { Bundle } from "./source/bundle";
import type { Overview, Slide } from "./source/model";
import { Server } from "./source/server";
import { json, type Source } from "./source/source";
import { keepInAddress, read } from "./state/address";
import { DEFAULT, type State, Store } from "./state/state";
import { TableSide } from "./table/side";

/** The format of overview.json that this page reads. */
const VERSION = 1;

async function start(): Promise<void> {
  const theme = new ThemeSwitch();
  const keys = new Keys();
  const notices = new Notices();
  document.body.append(notices.element);
  const broken = (reason: unknown) =>
    notices.show(`The page has a fault: ${reason instanceof Error ? reason.message : reason}. Load it again.`);
  addEventListener("error", (event) => broken(event.error ?? event.message));
  addEventListener("unhandledrejection", (event) => broken(event.reason));
  const source: Source = document.documentElement.dataset.source === "bundle" ? new Bundle() : new Server();
  try {
    const [overview, { slides }] = await Promise.all([
      json<Overview>(source, "data/overview.json"),
      json<{ slides: Slide[] }>(source, "data/slides.json"),
    ]);
    if (overview.version !== VERSION)
      throw new Error(
        `This page reads version ${VERSION} of the viewer’s data; the server has ${overview.version}. Run \`make viewer\` again.`,
      );
    build(source, overview, slides, keys, notices, theme);
  } catch (error) {
    notices.show((error as Error).message, () => location.reload());
  }
}

const PARTS = ["table", "overlays", "gallery"];

/** Whether a part of the page is shown; a table of one slide is not, unless it is asked for. */
function isShown(part: string, slides: number): boolean {
  return (kept.get(`show.${part}`) ?? (part === "table" && slides === 1 ? "no" : "yes")) === "yes";
}

/** The state before anyone chose: the first task, its default arm, and the only slide if there is one. */
function baseState(overview: Overview, slides: Slide[]): State {
  const [task] = overview.tasks;
  const arm = task?.default_arm ?? task?.arms[0]?.id ?? "";
  return { ...DEFAULT, task: task?.name ?? "", arm, slide: slides.length === 1 ? (slides[0] as Slide).id : "" };
}

/** An address from elsewhere may name a task or an arm that is not here: that is said, and the usual one shown. */
function possible(state: State, base: State, { tasks }: Overview, notices: Notices): State {
  const task = tasks.find(({ name }) => name === state.task);
  const unknown = (arm: string) => arm !== "" && !task?.arms.some(({ id }) => id === arm);
  if (!task && state.task) {
    notices.show(`There is no task ${state.task} here.`);
    return { ...state, task: base.task, arm: base.arm, other: "", compare: "one" };
  }
  for (const arm of [state.arm, state.other].filter(unknown))
    notices.show(`There is no arm ${arm} in task ${state.task}.`);
  const other = unknown(state.other) ? "" : state.other;
  const arm = unknown(state.arm) ? (task?.default_arm ?? "") : state.arm;
  return { ...state, arm, other, compare: other ? state.compare : "one" };
}

function build(
  source: Source,
  overview: Overview,
  slides: Slide[],
  keys: Keys,
  notices: Notices,
  theme: ThemeSwitch,
): void {
  const base = baseState(overview, slides);
  const store = new Store(possible(read(location.hash, base), base, overview, notices));
  const app = new App(source, overview, slides, store, keys, notices);
  const side = new TableSide(app);
  const toolbar = new Toolbar(app);
  const pane = new SlidePane(app, toolbar.element);
  const actions = new Actions(app, pane);
  toolbar.fill(pane, actions);
  const main = h("main", {});
  main.append(side.element, splitter(main), pane.element);
  const layout = () => {
    document.title = [store.state.slide, overview.name, "wsi-ncmi"].filter(Boolean).join(" · ");
    main.classList.toggle("open", store.state.slide !== "");
    for (const part of PARTS) main.classList.toggle(`no-${part}`, !isShown(part, slides.length));
  };
  const header = new Header(app, theme.button);
  document.body.append(header.element, main);
  store.on(["slide"], layout);
  const toggle = (part: string) => {
    kept.set(`show.${part}`, isShown(part, slides.length) ? "no" : "yes");
    layout();
  };
  bindKeys({ keys, actions, pane, side, theme, store, toggle });
  keepInAddress(store, base);
  layout();
  void side.load();
  void pane.open();
}

void start();
