// Runs before the first paint, so that a chosen theme doesn't flash.
const theme = localStorage.getItem("tracer.theme");
if (theme) document.documentElement.dataset.theme = theme;
