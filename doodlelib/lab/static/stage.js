// Widgets in a column, or side by side. Those of ours are drawn here from their models, so that it
// takes no more than anywidget gives everywhere; others need Jupyter's own manager of widgets.

import { default as controls } from "./controls.js";
import { default as map } from "./latent_map.js";
import { default as message } from "./message.js";
import { default as pad } from "./pad.js";
import { default as player } from "./player.js";

const PARTS = { Controls: controls, Dots: map, Message: message, Paper: pad, Player: player };

/** The model of a widget for one place on the page, and how to take its listeners away. */
function scoped(model) {
  const heard = [];
  const at = {
    get: (name) => model.get(name),
    set: (name, value) => model.set(name, value),
    save_changes: () => model.save_changes(),
    send: (...message) => model.send(...message),
    on: (name, heed) => (heard.push([name, heed]), model.on(name, heed)),
    off: (name, heed) => model.off(name, heed),
  };
  return [at, () => heard.forEach(([name, heed]) => model.off(name, heed))];
}

function render({ model, el }) {
  const shown = new Map(); // reference to [place, way to end it]
  el.classList.add("doodles");
  const parts = el.appendChild(document.createElement("div")); // as wide as the page lets it be

  async function show(kind, reference, place) {
    const child = await model.widget_manager.get_model(reference.replace("IPY_MODEL_", ""));
    if (!(kind in PARTS)) {
      if (!model.widget_manager.create_view) return void (place.textContent = `${kind}: only in Jupyter`);
      const view = await model.widget_manager.create_view(child);
      place.append(view.el);
      view.trigger("displayed");
      return () => view.remove();
    }
    const [at, forget] = scoped(child);
    const end = await PARTS[kind].render({ model: at, el: place });
    return () => (forget(), end?.());
  }

  function follow() {
    const children = model.get("children");
    for (const [reference, [place, end]] of shown) {
      if (children.some(([, other]) => other === reference)) continue;
      end.then((leave) => leave?.());
      place.remove();
      shown.delete(reference);
    }
    children.forEach(([kind, reference], i) => {
      if (!shown.has(reference)) {
        const place = document.createElement("div");
        shown.set(reference, [place, show(kind, reference, place)]);
      }
      const [place] = shown.get(reference);
      if (parts.children[i] !== place) parts.insertBefore(place, parts.children[i] ?? null);
    });
    parts.classList.toggle("doodle-beside", model.get("beside"));
  }

  follow();
  model.on("change:children", follow);
  return () => shown.forEach(([, end]) => end.then((leave) => leave?.()));
}

export default { render };
