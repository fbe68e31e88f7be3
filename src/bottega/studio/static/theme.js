// Sets the kept theme before the page is drawn, so that nothing flashes.
try {
  const kept = localStorage.getItem("bottega.theme");
  if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
} catch { /* storage switched off: the system's theme */ }
