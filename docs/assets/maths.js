// Renders what pymdownx.arithmatex left as \(...\) and \[...\]; everything it needs is served with the page.
document.querySelectorAll(".arithmatex").forEach((element) => {
  const source = element.textContent.trim();
  katex.render(source.slice(2, -2), element, { displayMode: source.startsWith("\\["), throwOnError: true });
});
