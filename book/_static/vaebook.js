// Keep the punctuation that follows a formula on the formula's line: browsers would break between the two.
document.addEventListener("DOMContentLoaded", () => {
  for (const formula of document.querySelectorAll("span.math")) {
    const text = formula.nextSibling;
    const punctuation = text instanceof Text && text.data.match(/^[-.,;:!?)\]’”]+/);
    if (!punctuation) continue;
    text.splitText(punctuation[0].length);
    const unbroken = document.createElement("span");
    unbroken.className = "unbroken";
    formula.replaceWith(unbroken);
    unbroken.append(formula, text);
  }
});
