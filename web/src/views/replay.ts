/** A stored match: watched, verified, shared, exported. */
import { h, replace, setText } from "../dom";
import { arcade } from "../net/arcade";
import { words } from "../net/api";
import type { Leave } from "../router";
import { stateSource } from "../source";
import { playback, type Playback } from "./playback";

export function replay(main: HTMLElement, id: string): Leave {
  const name = arcade.named(id);
  let player: Playback | null = null;
  let gone = false;

  const verdict = h("p", { class: "notice", role: "status" }, `Replay ${name}: the arcade runs it again, frame by frame …`);
  const verify = h("button", { class: "plain", onclick: () => void check() }, "Verify");
  const share = h("button", { class: "plain", onclick: () => void copy() }, "Copy link");

  async function check(): Promise<void> {
    verify.disabled = true;
    verdict.className = "notice";
    setText(verdict, "Running every frame again and checking every signature …");
    try {
      const answer = await arcade.verify(name);
      verdict.className = answer.valid ? "notice good" : "notice bad";
      const frame = answer.first_bad_frame;
      replace(verdict, answer.valid
        ? `Valid. ${answer.detail}`
        : [`Not valid${frame === undefined ? "" : ` from frame ${frame}`}. ${answer.detail} `,
          frame !== undefined && h("button", { class: "plain", onclick: () => player?.seek(frame) }, "Show that frame")]);
    } catch (error) {
      verdict.className = "notice bad";
      setText(verdict, words(error));
    }
    verify.disabled = false;
  }

  async function copy(): Promise<void> {
    try {
      await navigator.clipboard.writeText(location.href);
      setText(verdict, "The link is in your clipboard.");
    } catch {
      setText(verdict, location.href);
    }
  }

  main.classList.add("match");
  replace(main, verdict);

  async function load(): Promise<void> {
    try {
      const source = stateSource(await arcade.replayStates(name));
      if (gone) return;
      player = playback(source, [
        h("code", null, name), verify, share,
        h("a", { class: "button", href: arcade.framesUrl(name), download: `${name}.frames.json` }, "Export JSON"),
        h("a", { class: "button", href: "#/" }, "Arcade"),
      ]);
      setText(verdict, "");
      main.append(player.element);
      document.body.classList.add("playing");
      window.dispatchEvent(new Event("resize"));
    } catch (error) {
      if (gone) return;
      verdict.className = "notice bad";
      replace(verdict, words(error), " ", h("a", { href: "#/" }, "Back to the arcade"));
    }
  }
  void load();
  return () => {
    gone = true;
    player?.close();
    document.body.classList.remove("playing");
  };
}
