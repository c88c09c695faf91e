"use strict";
// The page says everything without this script; with it tasks become tabs, charts can be asked, commands copied.

function makeTabs(list) {
  const tabs = [...list.querySelectorAll("a")];
  const panels = tabs.map(tab => document.getElementById(decodeURIComponent(tab.hash.slice(1))));
  list.setAttribute("role", "tablist");
  const select = (chosen, focus) => tabs.forEach((tab, index) => {
    tab.setAttribute("aria-selected", index === chosen);
    tab.tabIndex = index === chosen ? 0 : -1;
    panels[index].hidden = index !== chosen;
    if (focus && index === chosen) tab.focus();
  });
  tabs.forEach((tab, index) => {
    tab.id = "tab-" + panels[index].id;
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-controls", panels[index].id);
    panels[index].setAttribute("role", "tabpanel");
    panels[index].setAttribute("aria-labelledby", tab.id);
    tab.addEventListener("click", event => {
      event.preventDefault();
      select(index);
      history.replaceState(null, "", tab.hash);
    });
    tab.addEventListener("keydown", event => {
      const step = {ArrowRight: index + 1, ArrowLeft: index - 1 + tabs.length, Home: 0, End: tabs.length - 1}[event.key];
      if (event.key === " " || event.key === "Enter") select(index, true);
      else if (step !== undefined) select(step % tabs.length, true);
      else return;
      event.preventDefault();
    });
  });
  const follow = () => tabs.findIndex(tab => tab.hash === location.hash);
  addEventListener("hashchange", () => { if (follow() >= 0) select(follow()); });
  select(Math.max(0, follow()));
}

function makeAskable(figure) {
  const plot = figure.querySelector(".plot"), svg = plot.querySelector("svg");
  const columns = [...svg.querySelectorAll(".column")], bodies = [...figure.querySelectorAll("tbody")];
  let shown = columns.findIndex(column => column.classList.contains("shown"));
  const show = chosen => {
    shown = Math.min(Math.max(chosen, 0), columns.length - 1);
    columns.forEach((column, index) => column.classList.toggle("shown", index === shown));
    bodies.forEach((body, index) => { body.hidden = index !== shown; });
  };
  const light = series => {
    svg.classList.toggle("lighting", series !== null);
    figure.querySelectorAll("[data-series]").forEach(part => part.classList.toggle("lit", part.dataset.series === series));
  };
  const ask = event => {
    const box = svg.getBoundingClientRect(), scale = svg.viewBox.baseVal.width / box.width;
    const x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
    const found = columns.findIndex(column => x < Number(column.dataset.right));
    show(found < 0 ? columns.length - 1 : found);
    let nearest = null, least = 26;  // as far as a fingertip
    svg.querySelectorAll(`use[data-column="${shown}"]`).forEach(mark => {
      const far = Math.hypot(mark.x.baseVal.value - x, mark.y.baseVal.value - y);
      if (far < least) { least = far; nearest = mark.parentNode.dataset.series; }
    });
    light(nearest);
  };
  plot.tabIndex = 0;
  plot.addEventListener("pointermove", ask);
  plot.addEventListener("pointerdown", ask);
  const leave = event => { if (event.pointerType !== "touch") light(null); };  // a finger leaves at once
  plot.addEventListener("pointerleave", leave);
  plot.addEventListener("keydown", event => {
    const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
    if (step) { show(shown + step); event.preventDefault(); }
  });
  figure.querySelectorAll("tr[data-series]").forEach(row => {
    row.addEventListener("pointerenter", () => light(row.dataset.series));
    row.addEventListener("pointerleave", leave);
  });
}

function makeCopyable(box) {
  const button = document.createElement("button"), code = box.querySelector("code");
  button.type = "button";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {  // not allowed here: what is selected can be copied by hand
      getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
  });
  box.querySelector("p").append(button);
}

document.documentElement.classList.add("script");
document.querySelectorAll(".tabs").forEach(makeTabs);
document.querySelectorAll(".chart").forEach(makeAskable);
document.querySelectorAll(".copy").forEach(makeCopyable);
