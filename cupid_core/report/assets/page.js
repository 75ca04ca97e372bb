// Connects the viewer with the switches of the page. Everything else of the report works without a script.
"use strict";

(function start() {
  const canvas = document.getElementById("view");
  const data = document.getElementById("scene-data");
  if (!canvas || !data) return;
  const scene = JSON.parse(data.textContent);
  let viewer;
  try {
    viewer = new Viewer(canvas, scene);
  } catch (error) {
    const note = document.createElement("p");
    note.className = "note";
    note.textContent = error.message;
    canvas.replaceWith(note);
    return;
  }
  const controls = document.getElementById("view-controls");
  const toggle = (text, checked, change) => {
    const label = document.createElement("label"), box = document.createElement("input");
    box.type = "checkbox";
    box.checked = checked;
    box.addEventListener("change", () => { change(box.checked); viewer.request(); });
    label.append(box, " " + text);
    controls.append(label);
  };
  scene.objects.forEach((object, k) => {
    toggle(object.id + " " + object.label, true, (on) => { viewer.objects[k].shown = on; });
  });
  toggle("axes", viewer.axes, (on) => { viewer.axes = on; });
  toggle("camera", viewer.frustum, (on) => { viewer.frustum = on; });
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "view of the photo";
  button.addEventListener("click", () => viewer.reset());
  controls.append(button);
})();
