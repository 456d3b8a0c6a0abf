import "@fontsource-variable/saira/wdth.css";
import "@fontsource-variable/martian-mono/wdth.css";
import "./style.css";
import { start } from "./router";

start(document.getElementById("app")!);
