/** Runs `tick` at every display frame until stopped. */
export function loop(tick: (now: number) => void): () => void {
  let id = requestAnimationFrame(function again(now: number) {
    id = requestAnimationFrame(again);
    tick(now);
  });
  return () => cancelAnimationFrame(id);
}

/** Calls `fit` when the element's box changes. */
export function onResize(element: Element, fit: () => void): () => void {
  const observer = new ResizeObserver(fit);
  observer.observe(element);
  return () => observer.disconnect();
}
