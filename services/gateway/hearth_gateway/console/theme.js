// Set before the first paint, so that nothing flashes; hence a script of its own and no module.
"use strict";
{
  const chosen = localStorage.getItem("hearth.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
}
