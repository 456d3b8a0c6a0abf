/** Opens a file of JSON frames on this machine; nothing is sent anywhere. */
import { h, replace, setText } from "../dom";
import { framesSource } from "../frames";
import { words } from "../net/api";
import type { Leave } from "../router";
import { stateSource } from "../source";
import { playback, type Playback } from "./playback";

export function fileView(main: HTMLElement): Leave {
  let player: Playback | null = null;
  const notice = h("p", { class: "notice", role: "status" });
  const input = h("input", { type: "file", accept: ".json,application/json,.states", onchange: () => { if (input.files?.[0] !== undefined) void open(input.files[0]); } });
  const zone = h("label", { class: "drop" },
    h("strong", null, "Choose a file of frames"), h("span", null, "or drop it here: the JSON that “Export JSON” writes. It stays on this machine."), input);

  async function open(file: File): Promise<void> {
    setText(notice, `Reading ${file.name} …`);
    try {
      const source = file.name.endsWith(".states") ? stateSource(await file.arrayBuffer()) : framesSource(JSON.parse(await file.text()));
      player?.close();
      player = playback(source, [h("code", null, file.name), h("button", { class: "plain", onclick: reset }, "Another file")]);
      notice.className = "notice";
      setText(notice, "");
      replace(main, notice, player.element);
      main.className = "match";
      document.body.classList.add("playing");
    } catch (error) {
      notice.className = "notice bad";
      setText(notice, error instanceof SyntaxError ? `${file.name} is not JSON: ${error.message}` : `${file.name}: ${words(error)}`);
    }
  }

  function reset(): void {
    player?.close();
    player = null;
    input.value = "";
    document.body.classList.remove("playing");
    main.className = "";
    setText(notice, "");
    replace(main, h("section", { class: "page" }, h("h1", null, "Open a file"), zone, notice));
  }

  const over = (event: DragEvent): void => event.preventDefault();
  const drop = (event: DragEvent): void => {
    event.preventDefault();
    const file = event.dataTransfer?.files[0];
    if (file !== undefined) void open(file);
  };
  main.addEventListener("dragover", over);
  main.addEventListener("drop", drop);
  reset();
  return () => {
    player?.close();
    main.removeEventListener("dragover", over);
    main.removeEventListener("drop", drop);
    document.body.classList.remove("playing");
  };
}
