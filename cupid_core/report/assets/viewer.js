// Shows the meshes of a scene: drag to turn, shift-drag or right-drag to move, wheel or pinch to zoom.
// Plain WebGL 2 and no other file: all data is in the page. World: x right, y up, z towards the viewer,
// which is the photo's camera frame turned by half a turn about x; the photo's camera is at the origin.
"use strict";

const VERTEX_SHADER = `#version 300 es
in vec3 position; in vec3 normal; in vec3 color;
uniform mat4 model, view, projection;
out vec3 shade, normal_eye, position_eye;
void main() {
  vec4 eye = view * model * vec4(position, 1.0);
  normal_eye = mat3(view * model) * normal;
  position_eye = eye.xyz;
  shade = color;
  gl_Position = projection * eye;
}`;
const FRAGMENT_SHADER = `#version 300 es
precision highp float;
in vec3 shade, normal_eye, position_eye;
uniform float light;
out vec4 result;
void main() {
  float facing = abs(dot(normalize(normal_eye), normalize(position_eye)));
  result = vec4(shade * mix(1.0, 0.45 + 0.6 * facing, light), 1.0);
}`;

// ---- the graphics card -------------------------------------------------------------------------------------
class Screen {
  constructor(canvas) {
    const gl = canvas.getContext("webgl2", { antialias: true });
    if (!gl) throw new Error("This browser has no WebGL 2; open scene.glb in another viewer.");
    const program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX_SHADER], [gl.FRAGMENT_SHADER, FRAGMENT_SHADER]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
    gl.useProgram(program);
    gl.enable(gl.DEPTH_TEST);
    this.gl = gl; this.program = program;
  }

  upload({ vertices, colors, faces }) {
    const gl = this.gl, array = gl.createVertexArray();
    gl.bindVertexArray(array);
    const put = (name, data, type, normalized) => {
      gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
      gl.bufferData(gl.ARRAY_BUFFER, data, gl.STATIC_DRAW);
      const place = gl.getAttribLocation(this.program, name);
      gl.enableVertexAttribArray(place);
      gl.vertexAttribPointer(place, 3, type, normalized, 0, 0);
    };
    put("position", vertices, gl.FLOAT, false);
    put("normal", vertexNormals(vertices, faces), gl.FLOAT, false);
    put("color", colors, gl.UNSIGNED_BYTE, true);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, faces, gl.STATIC_DRAW);
    gl.bindVertexArray(null);
    return { array, count: faces.length };
  }

  set(name, value) {
    const place = this.gl.getUniformLocation(this.program, name);
    if (typeof value === "number") this.gl.uniform1f(place, value);
    else this.gl.uniformMatrix4fv(place, false, value);
  }

  clear(color) {
    const gl = this.gl;
    gl.viewport(0, 0, gl.drawingBufferWidth, gl.drawingBufferHeight);
    gl.clearColor(...color, 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
  }

  draw(mesh, model, light) {
    const gl = this.gl;
    this.set("model", model);
    this.set("light", light);
    gl.bindVertexArray(mesh.array);
    gl.drawElements(gl.TRIANGLES, mesh.count, gl.UNSIGNED_INT, 0);
  }
}

// ---- the viewer --------------------------------------------------------------------------------------------
const IDENTITY = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1];

class Viewer {
  constructor(canvas, scene) {
    this.canvas = canvas; this.camera = scene.camera; this.screen = new Screen(canvas);
    this.axes = true; this.frustum = false;
    this.objects = scene.objects.map((object) => {
      const data = {
        vertices: new Float32Array(bytesOf(object.vertices)),
        colors: new Uint8Array(bytesOf(object.colors)),
        faces: new Uint32Array(bytesOf(object.faces)),
      };
      const length = object.axes_length;
      return {
        shown: true, model: worldFromRows(object.T_camera_object), length,
        mesh: this.screen.upload(data), axes: this.screen.upload(axesOf(length)),
      };
    });
    const [x, y, z] = scene.up;
    this.up = unit([x, -y, -z]);
    this.right = unit(cross(this.up, Math.abs(this.up[2]) < 0.9 ? [0, 0, 1] : [1, 0, 0]));
    this.back = cross(this.right, this.up);
    const centers = this.objects.map((object) => object.model.slice(12, 15));
    this.center = centers.reduce((sum, c) => add(sum, c, 1 / centers.length), [0, 0, 0]);
    this.radius = Math.max(...this.objects.map((o, k) => Math.hypot(...add(centers[k], this.center, -1)) + o.length));
    this.camera_mesh = this.screen.upload(frustumOf(scene.camera, this.radius * 0.4));
    this.reset();
    this.listen();
    new ResizeObserver(() => this.resize()).observe(canvas);
    this.resize();
  }

  // Back to where the photo was taken from.
  reset() {
    this.target = this.center;
    const away = add([0, 0, 0], this.center, -1);
    this.distance = Math.hypot(...away);
    const [x, y, z] = [this.right, this.up, this.back].map((axis) => dot(unit(away), axis));
    this.pitch = Math.asin(Math.max(-0.999, Math.min(0.999, y)));
    this.yaw = Math.atan2(x, z);
    this.request();
  }

  direction() {
    const flat = add(this.right.map((x) => x * Math.sin(this.yaw)), this.back, Math.cos(this.yaw));
    return add(flat.map((x) => x * Math.cos(this.pitch)), this.up, Math.sin(this.pitch));
  }

  turn(dx, dy) {
    this.yaw -= dx * 0.008;
    this.pitch = Math.max(-1.55, Math.min(1.55, this.pitch + dy * 0.008));
    this.request();
  }

  move(dx, dy) {
    const z = this.direction(), x = unit(cross(this.up, z)), y = cross(z, x);
    const step = this.distance * 2 * Math.tan(this.fov() / 2) / this.canvas.clientHeight;
    this.target = add(add(this.target, x, -dx * step), y, dy * step);
    this.request();
  }

  zoom(factor) {
    this.distance = Math.max(this.radius * 0.05, Math.min(this.radius * 60, this.distance * factor));
    this.request();
  }

  listen() {
    const fingers = new Map(), canvas = this.canvas;
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("dblclick", () => this.reset());
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(Math.sign(event.deltaY) * Math.min(Math.abs(event.deltaY), 100) * 0.0015));
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, [event.clientX, event.clientY]);
    });
    for (const end of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(end, (event) => fingers.delete(event.pointerId));
    }
    canvas.addEventListener("pointermove", (event) => {
      const before = fingers.get(event.pointerId);
      if (!before) return;
      const now = [event.clientX, event.clientY], dx = now[0] - before[0], dy = now[1] - before[1];
      const other = [...fingers].find(([id]) => id !== event.pointerId);
      if (other) {
        const span = (p) => Math.hypot(p[0] - other[1][0], p[1] - other[1][1]) || 1;
        this.zoom(span(before) / span(now));
        this.move(dx / 2, dy / 2);
      } else if (event.shiftKey || event.buttons & 6) this.move(dx, dy);
      else this.turn(dx, dy);
      fingers.set(event.pointerId, now);
    });
    canvas.addEventListener("keydown", (event) => {
      const turns = { ArrowLeft: [-12, 0], ArrowRight: [12, 0], ArrowUp: [0, -12], ArrowDown: [0, 12] };
      if (turns[event.key]) { event.preventDefault(); this.turn(...turns[event.key]); }
      if (event.key === "+") this.zoom(0.9);
      if (event.key === "-") this.zoom(1.1);
      if (event.key === "r") this.reset();
    });
  }

  resize() {
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    this.canvas.width = Math.max(1, Math.round(this.canvas.clientWidth * ratio));
    this.canvas.height = Math.max(1, Math.round(this.canvas.clientHeight * ratio));
    this.draw();
  }

  // The field of view of the photo's camera, made wide enough that a narrow window shows all of it.
  fov() {
    const { width, height, fx, fy } = this.camera;
    const aspect = this.canvas.width / this.canvas.height;
    return 2 * Math.atan(Math.max(height / (2 * fy), width / (2 * fx) / aspect));
  }

  request() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.draw(); });
  }

  draw() {
    const eye = add(this.target, this.direction(), this.distance);
    const reach = this.distance + Math.hypot(...this.target) + 4 * this.radius;
    this.screen.set("view", lookAt(eye, this.target, this.up));
    const aspect = this.canvas.width / this.canvas.height;
    this.screen.set("projection", perspective(this.fov(), aspect, reach * 0.001, reach * 2));
    this.screen.clear([0.96, 0.96, 0.97]);
    for (const object of this.objects.filter((item) => item.shown)) {
      this.screen.draw(object.mesh, object.model, 1);
      if (this.axes) this.screen.draw(object.axes, object.model, 0);
    }
    if (this.frustum) this.screen.draw(this.camera_mesh, IDENTITY, 0);
  }
}
