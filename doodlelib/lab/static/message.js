// A line of text, which screen readers read out when it changes.

function render({ model, el }) {
  el.classList.add("doodles", "doodle-message");
  const follow = () => (el.innerHTML = model.get("value"));
  follow();
  model.on("change:value", follow);
}

export default { render };
