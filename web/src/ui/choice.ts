/** A group of radio buttons that looks like a row of switches. */
import { h } from "../dom";

export interface Option<T> { value: T; label: Node | string; hint?: string; title?: string }

let groups = 0;

/** Builds the group; `chosen` is called with the value of a newly checked switch. */
export function choice<T>(legend: string, options: Option<T>[], initial: T, className: string, chosen: (value: T) => void): HTMLFieldSetElement {
  const name = `choice-${groups++}`;
  return h("fieldset", { class: `choice ${className}` },
    h("legend", null, legend),
    h("div", { class: "choice-row" }, options.map((option) => {
      const input = h("input", { type: "radio", name, checked: option.value === initial, onchange: () => chosen(option.value) });
      return h("label", { title: option.title }, input, h("span", { class: "choice-face" }, option.label, option.hint !== undefined && h("small", null, option.hint)));
    })));
}
