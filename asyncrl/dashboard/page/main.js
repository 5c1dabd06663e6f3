import { element } from "./common.js";
import { mountPlayer } from "./player.js";

const player = mountPlayer(document.querySelector("#player"));
const source = new EventSource("api/events");
source.onmessage = (event) => {
  const message = JSON.parse(event.data);
  if (message.runs) {
    document.querySelector("#runs").replaceChildren(...message.runs.map((run) => element("p", {}, `${run.name}: ${run.state}`)));
    player.show(message.runs.slice(0, 1));
  }
};
