/** Coupled views look at the same place: the one that is moved leads. */
import type { Place, SlideView } from "./view";

const ENOUGH = { place: 0.05, zoom: 1e-6, rotation: 1e-3 };

export function couple(first: SlideView, second: SlideView, moved: () => void): void {
  let following = false;
  const follow = (leader: SlideView, follower: SlideView) => () => {
    if (following || !leader.ready || !follower.ready) return;
    const place = leader.place();
    if (!differs(place, follower.place())) return moved();
    following = true; // what the follower reports now is our own doing
    follower.go(place, true);
    following = false;
    moved();
  };
  first.onMove = follow(first, second);
  second.onMove = follow(second, first);
}

/** Further apart than a twentieth of a screen pixel. */
function differs(a: Place, b: Place): boolean {
  return (
    Math.hypot(a.x - b.x, a.y - b.y) * a.zoom > ENOUGH.place ||
    Math.abs(a.zoom / b.zoom - 1) > ENOUGH.zoom ||
    Math.abs(a.rotation - b.rotation) > ENOUGH.rotation
  );
}
