// Shows the common part of Markdown as DOM nodes: paragraphs, headings, lists, tables, code, bold, italics.
// Text from a model becomes text nodes only; links are shown as text, images not at all.

import { button, copy, h } from "./dom.js";

const INLINE = /(`+)(.+?)\1|\*\*(.+?)\*\*|(?<![\w*])\*([^\s*][^*]*?)\*(?![\w*])/g;

function inline(text) {
  const nodes = [];
  let end = 0;
  for (const found of text.matchAll(INLINE)) {
    if (found.index > end) nodes.push(text.slice(end, found.index));
    if (found[2] !== undefined) nodes.push(h("code", {}, found[2]));
    else if (found[3] !== undefined) nodes.push(h("strong", {}, ...inline(found[3])));
    else nodes.push(h("em", {}, found[4]));
    end = found.index + found[0].length;
  }
  if (end < text.length) nodes.push(text.slice(end));
  return nodes;
}

function lines(text) {
  return text.split("\n").flatMap((line, index) => (index ? [h("br"), ...inline(line)] : inline(line)));
}

function code(text, language) {
  const label = language ? `Code, ${language}` : "Code";
  return h("div.code", {}, h("pre", { tabIndex: 0, "aria-label": label }, h("code", {}, text)),
    button("copy", "Copy the code", () => copy(text)));
}

function list(items) {
  const ordered = /^\s*\d/.test(items[0]);
  const node = h(ordered ? "ol" : "ul");
  if (ordered) node.start = Number.parseInt(items[0], 10);
  for (const item of items) node.append(h("li", {}, ...lines(item.replace(/^\s*([-*+]|\d+[.)])\s+/, ""))));
  return node;
}

const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());

function table(rows) {
  const [head, , ...body] = rows.map(cells);
  return h("div.wide", {}, h("table", {}, h("thead", {}, h("tr", {}, head.map((cell) => h("th", {}, ...inline(cell))))),
    h("tbody", {}, body.map((row) => h("tr", {}, row.map((cell) => h("td", {}, ...inline(cell))))))));
}

const ITEM = /^\s*([-*+]|\d+[.)])\s+/;

/** Return the nodes of a text. An open code fence (an answer still growing) runs to the end. */
export function markdown(text) {
  const blocks = [];
  const rows = text.replaceAll("\r\n", "\n").split("\n");
  let paragraph = [];
  const close = () => {
    if (paragraph.length) blocks.push(h("p", {}, ...lines(paragraph.join("\n"))));
    paragraph = [];
  };
  const take = (at, accept) => {
    let end = at;
    while (end < rows.length && accept(rows[end])) end += 1;
    return end;
  };
  for (let at = 0; at < rows.length;) {
    const row = rows[at];
    const fence = row.match(/^\s*(```+|~~~+)\s*(\S*)/);
    const heading = row.match(/^(#{1,6})\s+(.*)/);
    if (fence) {
      close();
      const end = take(at + 1, (line) => !line.trim().startsWith(fence[1]));
      blocks.push(code(rows.slice(at + 1, end).join("\n"), fence[2]));
      at = end + 1;
    } else if (heading) {
      close();
      blocks.push(h(`h${Math.min(heading[1].length + 1, 3)}`, {}, ...inline(heading[2])));
      at += 1;
    } else if (ITEM.test(row) && !paragraph.length) {
      const end = take(at, (line) => ITEM.test(line) || (/^\s{2,}\S/.test(line)));
      const items = [];
      for (const line of rows.slice(at, end)) {
        if (ITEM.test(line)) items.push(line);
        else items[items.length - 1] += `\n${line.trim()}`;
      }
      blocks.push(list(items));
      at = end;
    } else if (row.includes("|") && /^[\s|:-]+$/.test(rows[at + 1] ?? "") && rows[at + 1].includes("-")) {
      close();
      const end = take(at, (line) => line.includes("|"));
      blocks.push(table(rows.slice(at, end)));
      at = end;
    } else {
      if (row.trim()) paragraph.push(row);
      else close();
      at += 1;
    }
  }
  close();
  return blocks;
}
