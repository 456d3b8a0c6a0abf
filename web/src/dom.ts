/** Builds elements without a framework: `h("p", { class: "note" }, "text", child)`. */

type Child = Node | string | number | null | undefined | false | Child[];
type Props = Record<string, unknown>;

function append(parent: Node, child: Child): void {
  if (Array.isArray(child)) for (const item of child) append(parent, item);
  else if (child !== null && child !== undefined && child !== false) {
    parent.appendChild(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/** Attributes by name; `onclick` and the like are listeners; booleans set or leave out. */
export function h<K extends keyof HTMLElementTagNameMap>(tag: K, props?: Props | null, ...children: Child[]): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (name.startsWith("on") && typeof value === "function") {
      element.addEventListener(name.slice(2), value as EventListener);
    } else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, String(value));
  }
  append(element, children);
  return element;
}

export function replace(parent: Element, ...children: Child[]): void {
  parent.replaceChildren();
  append(parent, children);
}

/** Sets text only when it differs: no layout for a readout that stands still. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

const reduced = window.matchMedia("(prefers-reduced-motion: reduce)");
export function prefersReducedMotion(): boolean {
  return reduced.matches;
}
