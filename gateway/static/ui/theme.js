// Runs before anything is drawn, so that a chosen theme does not flash.
{
  const chosen = localStorage.getItem("mainstem.theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
}
