import "@fontsource-variable/saira/wdth.css";
import "@fontsource-variable/martian-mono/wdth.css";
import "./style.css";
import { openArcade } from "./net/arcade";
import { words } from "./net/api";
import { start } from "./router";

const root = document.getElementById("app")!;
openArcade().then(
  () => start(root),
  (error: unknown) => { root.textContent = `${words(error)} Reload the page to try again.`; },
);
