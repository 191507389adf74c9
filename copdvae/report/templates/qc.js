(function () {
  "use strict";
  const get = id => document.getElementById(id), list = get("subjects"), groups = [...list.querySelectorAll(":scope > ol")];
  const all = groups.flatMap(group => [...group.children]), size = groups.length ? groups[0].children.length : 1;
  const words = get("words"), state = get("state"), sort = get("sort"), way = get("way"), lines = get("lines");
  const flags = [...document.querySelectorAll("[data-flag]")];
  const text = new Map(all.map(item => [item, (item.dataset.subject + " " + item.querySelector(".facts").textContent).toLowerCase()]));
  const numbers = new Set(["order", "flags"]);
  let order = all, shown = all;

  // Numbers by size, words as people sort them (P9 before P10); what has no value comes last, whichever way.
  const compare = new Intl.Collator(undefined, {numeric: true}).compare;
  const arrange = () => {
    const key = sort.value, down = way.getAttribute("aria-pressed") === "true" ? -1 : 1, number = numbers.has(key) || /^f\d+$/.test(key);
    const value = item => item.dataset[key] === undefined || item.dataset[key] === "" ? null : number ? Number(item.dataset[key]) : item.dataset[key];
    const keyed = all.map(item => [value(item), Number(item.dataset.order), item]);
    keyed.sort(([a, first], [b, second]) => {
      if (a === null || b === null) return (a === null) - (b === null) || first - second;
      return down * (number ? a - b : compare(a, b)) || first - second;
    });
    order = keyed.map(entry => entry[2]);
    choose();
  };
  const choose = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean), part = state.value;
    const pressed = flags.filter(flag => flag.getAttribute("aria-pressed") === "true").map(flag => flag.dataset.flag);
    const fits = item => {
      const own = item.dataset.codes.split(" ");
      return (!part || item.dataset.state === part || item.dataset.split === part)
        && (!pressed.length || pressed.some(flag => flag === "-" ? item.dataset.flags === "0" : own.includes(flag)))
        && wanted.every(word => text.get(item).includes(word));
    };
    shown = order.filter(fits);
    groups.forEach((group, place) => {  // those who do not fit are taken out of the page
      const own = shown.slice(place * size, (place + 1) * size);
      group.replaceChildren(...own);
      group.style.setProperty("--count", own.length);
      group.hidden = !own.length;
    });
    get("shown").textContent = shown.length === all.length ? all.length + " shown" : shown.length + " of " + all.length + " shown";
    get("nobody").hidden = shown.length > 0 || !all.length;
    if (!shown.some(item => item.tabIndex === 0) && shown.length) hold(shown[0]);
  };
  const everyone = () => {
    words.value = state.value = "";
    flags.forEach(flag => flag.setAttribute("aria-pressed", "false"));
    choose();
  };
  const hold = item => {
    all.forEach(other => { if (other.tabIndex === 0) other.tabIndex = -1; });
    item.tabIndex = 0;
  };
  const enlarge = item => item.querySelector("img") && item.classList.toggle("large");
  const outlines = () => list.classList.toggle("lines-off", !lines.checked);

  words.addEventListener("input", choose);
  state.addEventListener("change", choose);
  sort.addEventListener("change", () => {
    turn(sort.value === "flags");  // the most flags first
    arrange();
  });
  const turn = down => {
    way.setAttribute("aria-pressed", down);
    way.firstChild.data = down ? "↓ " : "↑ ";
    way.querySelector("span").textContent = down ? "falling" : "rising";
  };
  way.addEventListener("click", () => { turn(way.getAttribute("aria-pressed") !== "true"); arrange(); });
  lines.addEventListener("change", outlines);
  get("tools").addEventListener("submit", event => event.preventDefault());
  get("everyone").addEventListener("click", everyone);
  flags.forEach(flag => flag.addEventListener("click", () => {
    flag.setAttribute("aria-pressed", flag.getAttribute("aria-pressed") !== "true");
    choose();
  }));
  list.addEventListener("click", event => {
    const item = event.target.closest("#subjects > ol > li");
    if (item && event.target.closest("button.picture")) enlarge(item);
  });
  list.addEventListener("focusin", event => {
    const item = event.target.closest("#subjects > ol > li");
    if (item) hold(item);
  });
  document.addEventListener("keydown", event => {
    const typing = event.target.matches("input[type=search], select");
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") return everyone();
    if (typing) return;
    const step = {ArrowDown: 1, j: 1, ArrowUp: -1, k: -1}[event.key];
    const item = document.activeElement.closest("#subjects > ol > li");
    if (event.key === "/") { event.preventDefault(); words.focus(); words.select(); }
    else if (event.key === "o") { lines.checked = !lines.checked; outlines(); }
    else if (event.key === "Enter" && event.target === item && item) enlarge(item);
    else if (step && (item || event.key === "j" || event.key === "k")) {
      const next = item ? shown[shown.indexOf(item) + step] : shown[0];
      if (next) { event.preventDefault(); next.focus({preventScroll: true}); next.scrollIntoView({block: "nearest"}); }
    }
  });
})();
