/** The server's OpenAPI document, to be read. */
import { h, replace } from "../dom";
import { json, words } from "../net/api";
import type { Leave } from "../router";

interface Operation { summary?: string; description?: string; parameters?: { name: string; in: string; required?: boolean; description?: string }[] }
interface Document { info: { title: string; version: string; description?: string }; paths: Record<string, Record<string, Operation>> }

const METHODS = ["get", "post", "put", "delete"];

function operation(path: string, method: string, one: Operation): HTMLElement {
  const parameters = (one.parameters ?? []).filter((parameter) => parameter.in !== "header");
  return h("li", null,
    h("b", { class: `method ${method}` }, method.toUpperCase()), " ", h("code", null, path),
    h("p", { class: "facts" }, one.summary ?? one.description ?? ""),
    parameters.length > 0 && h("p", { class: "facts" }, parameters.map((parameter, index) => [index > 0 && ", ", h("code", null, parameter.name), parameter.required === true ? " (needed)" : ""])));
}

export function apiPage(main: HTMLElement): Leave {
  let gone = false;
  replace(main, h("p", { class: "notice" }, "Reading the document …"));
  json<Document>("/openapi.json").then(
    ({ info, paths }) => {
      if (gone) return;
      const all = Object.entries(paths).flatMap(([path, methods]) => METHODS.filter((method) => method in methods).map((method) => operation(path, method, methods[method])));
      replace(main, h("article", { class: "page wide" },
        h("h1", null, info.title), h("p", { class: "lead" }, info.description ?? ""),
        h("p", null, h("a", { href: "/openapi.json" }, "The OpenAPI document"), `, version ${info.version}. Morph Cloud's own client works with it unmodified.`),
        h("ul", { class: "operations" }, all)));
    },
    (error: unknown) => { if (!gone) replace(main, h("section", { class: "page" }, h("h1", null, "No API page"), h("p", null, words(error)))); });
  return () => { gone = true; };
}
