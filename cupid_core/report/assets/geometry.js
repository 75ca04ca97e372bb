// Vectors, matrices and the meshes the viewer makes itself: axes and the camera. Knows numbers, not the screen.
"use strict";

// ---- small linear algebra; matrices are column-major, as WebGL wants them ------------------------------------
const add = (a, b, s = 1) => [a[0] + s * b[0], a[1] + s * b[1], a[2] + s * b[2]];
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const unit = (a) => { const n = Math.hypot(...a) || 1; return a.map((x) => x / n); };

function lookAt(eye, target, up) {
  const z = unit(add(eye, target, -1)), x = unit(cross(up, z)), y = cross(z, x);
  return [x[0], y[0], z[0], 0, x[1], y[1], z[1], 0, x[2], y[2], z[2], 0, -dot(x, eye), -dot(y, eye), -dot(z, eye), 1];
}

function perspective(fovY, aspect, near, far) {
  const f = 1 / Math.tan(fovY / 2);
  return [f / aspect, 0, 0, 0, 0, f, 0, 0, 0, 0, (far + near) / (near - far), -1, 0, 0, 2 * far * near / (near - far), 0];
}

// Row-major T_camera_object to column-major T_world_object: y and z change their sign.
function worldFromRows(rows) {
  const sign = [1, -1, -1, 1], out = new Array(16);
  for (let r = 0; r < 4; r++) for (let c = 0; c < 4; c++) out[c * 4 + r] = sign[r] * rows[r][c];
  return out;
}

// ---- data --------------------------------------------------------------------------------------------------
function bytesOf(base64) {
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes.buffer;
}

function vertexNormals(vertices, faces) {
  const normals = new Float32Array(vertices.length);
  const at = (i) => [vertices[3 * i], vertices[3 * i + 1], vertices[3 * i + 2]];
  for (let f = 0; f < faces.length; f += 3) {
    const a = at(faces[f]), n = cross(add(at(faces[f + 1]), a, -1), add(at(faces[f + 2]), a, -1));
    for (let k = 0; k < 3; k++) for (let j = 0; j < 3; j++) normals[3 * faces[f + k] + j] += n[j];
  }
  return normals; // the shader makes them unit length
}

// Beams (thin square rods) between pairs of points: lines of any width on every graphics card.
function beams(segments, width) {
  const vertices = [], colors = [], faces = [];
  for (const { from, to, color } of segments) {
    const along = unit(add(to, from, -1));
    const side = unit(cross(along, Math.abs(along[2]) < 0.9 ? [0, 0, 1] : [1, 0, 0])), other = cross(along, side);
    const first = vertices.length / 3;
    for (const end of [from, to]) for (const [s, o] of [[1, 1], [-1, 1], [-1, -1], [1, -1]]) {
      vertices.push(...add(add(end, side, s * width / 2), other, o * width / 2));
      colors.push(...color);
    }
    for (let k = 0; k < 4; k++) {
      const n = (k + 1) % 4;
      faces.push(first + k, first + n, first + 4 + n, first + k, first + 4 + n, first + 4 + k);
    }
  }
  return { vertices: new Float32Array(vertices), colors: new Uint8Array(colors), faces: new Uint32Array(faces) };
}

function axesOf(length) {
  const tip = (k) => [0, 1, 2].map((j) => (j === k ? length : 0));
  const colors = [[230, 60, 50], [60, 180, 75], [50, 110, 240]];
  return beams(colors.map((color, k) => ({ from: [0, 0, 0], to: tip(k), color })), length * 0.035);
}

function frustumOf(camera, depth) {
  const corner = (u, v) => [(u - camera.cx) / camera.fx * depth, -(v - camera.cy) / camera.fy * depth, -depth];
  const [w, h] = [camera.width - 0.5, camera.height - 0.5];
  const corners = [corner(-0.5, -0.5), corner(w, -0.5), corner(w, h), corner(-0.5, h)];
  const gray = [140, 140, 150], lines = [];
  corners.forEach((point, k) => {
    lines.push({ from: [0, 0, 0], to: point, color: gray }, { from: point, to: corners[(k + 1) % 4], color: gray });
  });
  return beams(lines, depth * 0.03);
}
