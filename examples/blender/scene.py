"""A small scene for Cycles, built from nothing: four materials, a lamp, a sky. The place to change."""

from __future__ import annotations

import bpy
import numpy as np


def build(width, height, samples, seed):
    """The scene, set so that a pixel depends on nothing but itself and the seed."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = width, height, 100
    cycles = scene.cycles
    cycles.device = "CPU"
    cycles.samples, cycles.seed = samples, seed
    # Each of these makes a pixel depend on its neighbours, or on how fast the machine was.
    cycles.use_adaptive_sampling = cycles.use_denoising = cycles.use_guiding = False
    cycles.time_limit = 0
    add_world(scene)
    add_things()
    bpy.ops.object.light_add(type="AREA", location=(3.0, -3.0, 5.0))
    bpy.context.object.data.energy = 600.0
    bpy.ops.object.camera_add(location=(0.0, -7.5, 3.2), rotation=(1.22, 0.0, 0.0))
    scene.camera = bpy.context.object
    return scene


def add_world(scene):
    """A pale sky."""
    scene.world = bpy.data.worlds.new("sky")
    if scene.world.node_tree is None:
        scene.world.use_nodes = True
    scene.world.node_tree.nodes["Background"].inputs["Color"].default_value = (0.25, 0.32, 0.45, 1.0)


def add_things():
    """A floor, a monkey of lacquer, a ball of metal, a cube of glass."""
    bpy.ops.mesh.primitive_plane_add(size=12.0)
    paint((0.6, 0.58, 0.55), 0.0, 0.6, 0.0)
    bpy.ops.mesh.primitive_monkey_add(location=(-0.6, 0.0, 1.0), rotation=(-0.4, 0.0, 0.2))
    paint((0.7, 0.12, 0.08), 0.0, 0.3, 0.0)
    bpy.ops.mesh.primitive_uv_sphere_add(segments=48, ring_count=24, radius=0.9, location=(2.0, 0.8, 0.9))
    bpy.ops.object.shade_smooth()
    bake_normals(bpy.context.object.data)
    paint((0.95, 0.75, 0.35), 1.0, 0.15, 0.0)
    bpy.ops.mesh.primitive_cube_add(size=0.9, location=(0.9, -1.8, 0.45), rotation=(0.0, 0.0, 0.6))
    paint((0.9, 0.97, 1.0), 0.0, 0.02, 1.0)


def bake_normals(mesh):
    """Give a smooth mesh its normals for good. Blender adds the faces around a corner up in whatever order its threads
    come along, so the normals that it computes itself differ in the last bit from one run to the next."""
    places = np.empty(len(mesh.vertices) * 3, np.float32)
    mesh.vertices.foreach_get("co", places)
    places = places.reshape(-1, 3).astype(np.float64)
    normals = np.zeros_like(places)
    for face in mesh.polygons:
        corners = list(face.vertices)
        a, b, c = places[corners[0]], places[corners[1]], places[corners[-1]]
        normals[corners] += np.cross(b - a, c - a)
    normals /= np.sqrt((normals * normals).sum(axis=1))[:, None]
    baked = mesh.attributes.new("custom_normal", "FLOAT_VECTOR", "POINT")
    baked.data.foreach_set("vector", normals.astype(np.float32).ravel())


def paint(colour, metallic, roughness, transmission):
    """Give the object that was added last a material."""
    material = bpy.data.materials.new("paint")
    if material.node_tree is None:
        material.use_nodes = True
    surface = material.node_tree.nodes["Principled BSDF"]
    surface.inputs["Base Color"].default_value = (*colour, 1.0)
    surface.inputs["Metallic"].default_value = metallic
    surface.inputs["Roughness"].default_value = roughness
    surface.inputs["Transmission Weight"].default_value = transmission
    bpy.context.object.data.materials.append(material)
