(function () {
  "use strict";
  const settings = {displaylogo: false, responsive: true, displayModeBar: "hover", modeBarButtons: [["toImage", "pan2d", "zoom2d", "resetScale2d"]]};
  const escape = text => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

  // Figures are drawn when they come into view: a page of thirty opens at once, and hidden tabs have a width when they are drawn.
  const draw = box => {
    const source = box.querySelector("script");
    if (!source) return;
    const spec = JSON.parse(source.textContent);
    source.remove();
    Plotly.newPlot(box, spec.data, spec.layout, settings);
  };
  const watch = new IntersectionObserver(entries => entries.forEach(entry => {
    if (entry.isIntersecting) { watch.unobserve(entry.target); draw(entry.target); }
  }), {rootMargin: "300px"});
  document.querySelectorAll(".plot").forEach(box => { if (box.id !== "scatter") watch.observe(box); });
  window.addEventListener("beforeprint", () => document.querySelectorAll(".plot").forEach(box => box.offsetParent && draw(box)));

  document.querySelectorAll(".tabs").forEach(group => {
    const buttons = [...group.querySelectorAll("[role=tab]")], panels = [...group.querySelectorAll(":scope > .panel")];
    const show = chosen => {
      buttons.forEach((button, place) => button.setAttribute("aria-selected", place === chosen));
      panels.forEach((panel, place) => { panel.hidden = place !== chosen; });
    };
    buttons.forEach((button, place) => button.addEventListener("click", () => show(place)));
    if (panels.length > 1) show(0);
  });

  document.querySelectorAll(".viewer").forEach(viewer => {
    const steps = viewer.dataset.steps.split(" "), frames = [...viewer.querySelectorAll(".frames img")];
    const rows = [...viewer.querySelectorAll(".strip tbody tr")].map(row => [...row.querySelectorAll("td:not(.change) img")]);
    const slider = viewer.querySelector("input"), output = viewer.querySelector("output");
    slider.addEventListener("input", () => {
      frames.forEach((frame, row) => { frame.src = rows[row][slider.value].src; });
      output.textContent = "u = " + steps[slider.value];
    });
  });

  const source = document.getElementById("scatter-data");
  if (!source) return;
  const data = JSON.parse(source.textContent), controls = document.getElementById("scatter-controls");
  const choose = (name, options, changed) => {
    const label = document.createElement("label"), select = document.createElement("select");
    label.append(name, select);
    options.forEach(([value, text]) => select.add(new Option(text, value)));
    select.addEventListener("change", changed);
    controls.append(label);
    return select;
  };
  const redraw = () => {
    const run = data.runs[method.value], test = only.checked, second = measure.value === "second" && run.second;
    const chosen = second ? data.measures[0] : data.measures.find(entry => entry.key === measure.value) || data.measures[0];
    const code = run.x[chosen.key], x = run.codes[code], y = second ? run.second.values : chosen.values;
    const kept = x.map((value, i) => i).filter(i => x[i] !== null && y[i] !== null && (!test || data.test[i]));
    const spread = i => !second && chosen.key === "gold" ? y[i] + ((i * 0.618) % 1 - 0.5) * 0.5 : y[i];
    const hover = i => (data.ids ? "<b>" + escape(data.ids[i]) + "</b><br>" : "") + data.measures.filter(m => m.values[i] !== null)
      .map(m => escape(m.name) + " " + m.values[i]).join("<br>");
    const trace = (rows, name, marker) => ({type: "scatter", mode: "markers", x: rows.map(i => x[i]), y: rows.map(spread), name: escape(name),
      text: rows.map(hover), hovertemplate: "%{text}<extra></extra>", marker: Object.assign({size: 7, opacity: 0.8, line: {width: 0.5, color: "white"}}, marker)});
    const group = data.groups[colour.value], shade = data.measures.find(entry => entry.key === colour.value);
    const traces = group
      ? group.labels.map((label, place) => trace(kept.filter(i => group.of[i] === place), label, {color: group.colours[place]})).filter(t => t.x.length)
      : [trace(kept, shade.name, {color: kept.map(i => shade.values[i]), colorscale: "Viridis", showscale: true, colorbar: {title: {text: escape(shade.name), side: "right"}, thickness: 12, outlinewidth: 0}})];
    const called = name => name.startsWith("u_") ? (run.second ? "u" + "₀₁₂₃₄₅₆₇₈₉"[Number(name.slice(2)) + 1] : "u") : name.replace("_", " ");
    const title = text => ({text: text, font: {size: 13, color: "#5b6675"}});
    const axis = {showline: true, linecolor: "#dfe4ea", gridcolor: "#dfe4ea", zeroline: false, automargin: true};
    const gold = {tickvals: [-2, -1, 0, 1, 2, 3, 4], ticktext: ["never smoked", "PRISm", "GOLD 0", "GOLD 1", "GOLD 2", "GOLD 3", "GOLD 4"]};
    Plotly.react("scatter", traces, {
      template: "none", height: 470, margin: {l: 70, r: 20, t: 10, b: 55}, showlegend: Boolean(group), legend: {orientation: "v", x: 1.01, y: 1},
      font: {family: 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif', size: 13, color: "#1c2430"},
      modebar: {bgcolor: "rgba(0,0,0,0)", color: "#aab3bd", activecolor: "#0b6e8a"},
      hoverlabel: {bgcolor: "white", bordercolor: "#dfe4ea", font: {size: 12, color: "#1c2430"}, align: "left"},
      xaxis: Object.assign({title: title("severity scale " + called(code))}, axis),
      yaxis: Object.assign({title: title(second ? called(run.second.name) : escape(chosen.name))}, axis, !second && chosen.key === "gold" ? gold : {}),
    }, settings);
    const rho = run.rho[chosen.key];
    document.getElementById("scatter-note").textContent = kept.length + " subjects shown" + (data.of > x.length ? ", of a random " + x.length + " of all " + data.of : "") + "." + (second || rho === null ? ""
      : " Rank correlation in test subjects" + (chosen.key === "gold" ? " of GOLD 0 to 4" : "") + ": " + rho.toFixed(2).replace("-", "\u2212") + ".")
      + (code.startsWith("z_") ? " This method does not say which of its numbers is severity: shown is the one that tells most about this measure in training subjects." : "");
  };
  const method = choose("Method", data.runs.map((run, place) => [place, run.name]), redraw);
  const options = data.measures.map(entry => [entry.key, entry.name]);
  if (data.runs.some(run => run.second)) options.push(["second", "second severity number"]);
  const measure = choose("Measure", options, redraw);
  const colour = choose("Colour", [...Object.entries(data.groups).map(([key, entry]) => [key, entry.name]), ...data.measures.filter(m => data.continuous.includes(m.key)).map(m => [m.key, m.name])], redraw);
  const label = document.createElement("label"), only = document.createElement("input");
  label.className = "check";
  only.type = "checkbox";
  only.checked = data.test.some(Boolean);
  only.addEventListener("change", redraw);
  label.append(only, "test subjects only");
  controls.append(label);
  redraw();
})();
